"""Names and values, one per line: aligned and on one line each in a pipe, wrapped between words in a terminal."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

from lmsupply_cli.render.sanitize import one_line
from lmsupply_cli.render.style import Style, paint
from lmsupply_cli.render.terminal import Terminal

Row = tuple[str, str]
_MARKS: dict[str, Style] = {"✓": "good", "✗": "bad"}
_MARK = re.compile("^[✓✗]")
_LEAST = 24  # columns for a value; with fewer, or a longer word, it stands below its name


def print_fields(terminal: Terminal, rows: Sequence[Row]) -> None:
    """On stdout. On a terminal a name that repeats is shown once."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    if not terminal.stdout_tty:
        for name, value in rows:
            terminal.data(name.ljust(width) + one_line(value))
        return
    before = None
    for name, value in rows:
        shown = "" if name == before else one_line(name)
        before = name
        value, room = one_line(value), terminal.width - width - 1
        beside = room >= _LEAST and all(len(word) <= room for word in value.split())
        indent, first = (width, shown.ljust(width)) if beside else (2, f"{shown}\n  " if shown else "")
        lines = _wrapped(value, max(8, terminal.width - indent - 1))
        lines[0] = _MARK.sub(lambda mark: paint(mark[0], _MARKS[mark[0]], terminal.stdout), lines[0])
        head = paint(first, "heading", terminal.stdout) if shown else " " * indent
        terminal.styled(head + ("\n" + " " * indent).join(lines))


def say_fields(terminal: Terminal, rows: Sequence[Row]) -> None:
    """Names and values for a person, on stderr: two columns, or one under the other where it is narrow."""
    rows = [(one_line(name), one_line(value)) for name, value in rows]
    columns = shutil.get_terminal_size().columns
    width = max(len(name) for name, _ in rows)
    if width > columns // 2:
        terminal.say("\n".join(f"  {name}\n      {value}" for name, value in rows))
        return
    lines = []
    for name, value in rows:
        wrapped = _wrapped(value, max(20, columns - width - 5))
        lines.append(f"  {name.ljust(width)}  {wrapped[0]}")
        lines += [" " * (width + 4) + more for more in wrapped[1:]]
    terminal.say("\n".join(lines))


def _wrapped(value: str, room: int) -> list[str]:
    """Between words only: the name of a variant or a path stays whole."""
    lines: Iterable[str] = textwrap.wrap(value, room, break_long_words=False, break_on_hyphens=False)
    return list(lines) or [""]
