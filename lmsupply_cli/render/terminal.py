"""The three streams of the process, and what they are: the one place that writes to them.

All text that is given to it may be foreign; nothing in it can steer the terminal. Only an answer, and a prompt that was
asked for byte for byte, go into a pipe as they are.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.render.flags import as_flags
from lmsupply_cli.render.sanitize import json_text, one_line, sanitize
from lmsupply_cli.render.style import is_dumb, paint, paint_label, styled_error, wants_color

if TYPE_CHECKING:
    from lmsupply_cli.events import Notice

_NARROW = 12  # columns; below that the terminal itself breaks lines better


@dataclass
class Terminal:
    """The three streams. Output that is not a terminal gets no color, no wrapping, no cursor codes."""

    stdin: IO[str] | None
    stdout: IO[str]
    stderr: IO[str]
    environ: Mapping[str, str]
    quiet: bool = False

    @classmethod
    def of_process(cls, *, quiet: bool = False) -> Terminal:
        return cls(sys.stdin, sys.stdout, sys.stderr, os.environ, quiet)

    @cached_property
    def stdin_tty(self) -> bool:
        return self.stdin is not None and self.stdin.isatty()

    @cached_property
    def stdout_tty(self) -> bool:
        return self.stdout.isatty()

    @cached_property
    def stderr_tty(self) -> bool:
        return self.stderr.isatty()

    @property
    def color(self) -> bool:
        return wants_color(self.environ)

    @property
    def dumb(self) -> bool:
        return is_dumb(self.environ)

    @property
    def width(self) -> int:
        """Columns of the terminal; unlimited in a pipe."""
        return shutil.get_terminal_size().columns if self.stdout_tty else 10_000

    def status(self) -> Status:
        return Status(self.stderr, enabled=self.stderr_tty and not self.dumb and not self.quiet)

    def say(self, text: str) -> None:
        """A line for the user, on stderr, unless quiet."""
        if not self.quiet:
            _write(self.stderr, paint_label(wrapped(text, self.stderr), self.stderr) + "\n")

    def error(self, message: str, *, hint: str = "") -> None:
        """On stderr, also when quiet."""
        _write(self.stderr, styled_error(message, hint, self.stderr))

    def aside(self, text: str, *, always: bool = False) -> None:
        """Like `say`, but dimmed: text beside an answer, such as statistics. `always`: also when quiet."""
        if always or not self.quiet:
            _write(self.stderr, paint(wrapped(text, self.stderr), "aside", self.stderr) + "\n")

    def ask(self, question: str) -> bool:
        """Yes or no, on stderr; only where both stdin and stderr are terminals. No answer is no."""
        return self._answer(f"{question} [y/N]") in ("y", "yes")

    def choose(self, question: str) -> str:
        """The first letter of what is typed; "" without an answer. As `ask`."""
        return self._answer(question)[:1]

    def _answer(self, question: str) -> str:
        _write(self.stderr, paint(wrapped(question, self.stderr), "question", self.stderr) + " ")
        line = ""
        try:
            line = self.stdin.readline() if self.stdin else ""
        finally:
            if not line.endswith("\n"):  # Ctrl-C and Ctrl-D leave the cursor behind the question
                _write(self.stderr, "\n")
        return line.strip().lower()

    def notice(self, notice: Notice) -> None:
        self.say(f"note: {one_line(as_flags(notice.text))}")

    def data(self, text: str, *, indent: int = 0) -> None:
        """A line of data, on stdout; what a terminal has to wrap goes on `indent` columns in."""
        _write(self.stdout, wrapped(text, self.stdout, indent=indent) + "\n")

    def styled(self, text: str) -> None:
        """Lines on stdout that are laid out and painted already: foreign text in them has been made harmless."""
        _write(self.stdout, text + "\n")

    def remark(self, text: str) -> None:
        """A line below a table or a list, on stdout: what was left out, where to find more."""
        _write(self.stdout, paint(wrapped(text, self.stdout), "aside", self.stdout) + "\n")

    def document(self, text: str) -> None:
        """Text of several lines, on stdout, not wrapped."""
        _write(self.stdout, sanitize(text))

    def exact(self, text: str) -> None:
        """Text byte for byte into a pipe; in a terminal what could steer it is left out."""
        _write(self.stdout, sanitize(text) if self.stdout_tty else text)

    def control(self, sequence: str) -> None:
        """Write a control sequence if stdout is a terminal."""
        if self.stdout_tty and not self.dumb:
            _write(self.stdout, sequence)

    def json(self, value: Mapping[str, Any]) -> None:
        self._line({"schema": JSON_SCHEMA, **value})

    def json_event(self, kind: str, **value: Any) -> None:
        self._line({"schema": JSON_SCHEMA, "type": kind, **value})

    def json_notice(self, notice: Notice) -> None:
        self.json_event("notice", code=notice.code, text=as_flags(notice.text))

    def _line(self, value: Mapping[str, Any]) -> None:
        _write(self.stdout, json_text(value) + "\n")


def _write(stream: IO[str], text: str) -> None:
    stream.write(text)
    stream.flush()


def wrapped(text: str, stream: IO[str], *, indent: int = 0) -> str:
    """`text` without what could steer a terminal, and broken between words where `stream` is one; a pipe gets one line."""
    text = sanitize(text)
    columns = shutil.get_terminal_size().columns if stream.isatty() else 0
    if columns < _NARROW or all(len(line) < columns for line in text.splitlines()):
        return text
    wrapper = textwrap.TextWrapper(
        columns - 1, subsequent_indent=" " * min(indent, columns // 2), break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(line if len(line) < columns else wrapper.fill(line) for line in text.splitlines())


class Status:
    """One line on stderr that comes and goes: what takes a while, while it does. Nothing without a terminal."""

    def __init__(self, file: IO[str], *, enabled: bool) -> None:
        self._file = file
        self._enabled = enabled
        self._shown = False

    def show(self, text: str) -> None:
        if self._enabled:
            room = max(1, shutil.get_terminal_size().columns - 1)  # what wraps could not be taken back
            self._file.write(f"\r\x1b[K{one_line(text)[:room]}")
            self._file.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._file.write("\r\x1b[K")
            self._file.flush()
            self._shown = False
