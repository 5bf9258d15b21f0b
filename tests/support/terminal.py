"""A program in a pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

import pexpect
import pyte


class Terminal:
    """`lmsupply ARGUMENTS` or another program on a screen of `columns` × `rows`; what it drew is in `screen`."""

    def __init__(
        self, *arguments: str, columns: int = 80, rows: int = 24, program: Sequence[str] = (), **environ: str
    ) -> None:
        command = [*program, *arguments] if program else [sys.executable, "-m", "lmsupply_cli", *arguments]
        self.process = pexpect.spawn(
            command[0],
            command[1:],
            env={**os.environ, **environ},
            dimensions=(rows, columns),
            timeout=30,
        )
        self.history = pyte.HistoryScreen(columns, rows, history=1000, ratio=1)
        self._stream = pyte.ByteStream(self.history)
        self.raw = b""

    def read(self, until: Callable[[str], bool], *, limit_s: float = 60) -> str:
        """Read until the screen's text satisfies `until`; the text."""
        deadline = time.monotonic() + limit_s
        while not until(self.text):
            assert time.monotonic() < deadline, f"the screen never showed it:\n{self.text}"
            try:
                data = self.process.read_nonblocking(65536, timeout=0.2)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert until(self.text), f"it ended first:\n{self.text}"
                break
            self._answer_cursor_query(data)
            self.raw += data
            self._stream.feed(data)
        return self.text

    def shows(self, text: str) -> str:
        return self.read(lambda screen: text in screen)

    def send(self, text: str) -> None:
        self.process.send(text)

    def end(self) -> int:
        """Wait until it ends; its exit code."""
        while True:
            try:
                data = self.process.read_nonblocking(65536, timeout=60)
            except pexpect.EOF:
                break
            self.raw += data
            self._stream.feed(data)
        self.process.close()
        status: int = (
            self.process.exitstatus if self.process.exitstatus is not None else 128 + self.process.signalstatus
        )
        return status

    @property
    def text(self) -> str:
        """Scrollback and screen, without trailing blanks."""
        width = self.history.columns
        above = ["".join(line[x].data for x in range(width)).rstrip() for line in self.history.history.top]
        return "\n".join([*above, *(line.rstrip() for line in self.history.display)]).rstrip()

    def _answer_cursor_query(self, data: bytes) -> None:
        if b"\x1b[6n" in data:  # prompt_toolkit asks where the cursor is
            self.process.send(f"\x1b[{self.history.cursor.y + 1};{self.history.cursor.x + 1}R")
