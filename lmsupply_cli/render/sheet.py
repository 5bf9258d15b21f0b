"""Names and values, one a line: aligned and quiet in a pipe, easy on the eye on a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from lmsupply_cli.render.flags import as_flags
from lmsupply_cli.render.sanitize import one_line
from lmsupply_cli.render.terminal import Terminal

Row = tuple[str, str]


def print_sheet(terminal: Terminal, rows: Sequence[Row], *, width: int) -> None:
    """`width`: columns of the names. On a terminal a name that repeats is shown once."""
    if not terminal.stdout_tty or terminal.dumb:
        for name, value in rows:
            terminal.data(name.ljust(width) + one_line(value))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=width - 1, no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    before = None
    for name, value in rows:
        table.add_row(Text("" if name == before else one_line(name)), Text(one_line(as_flags(value))))
        before = name
    Console(file=terminal.stdout, no_color=not terminal.color, highlight=False).print(table)


def say_sheet(terminal: Terminal, rows: Sequence[Row]) -> None:
    """Names and values for a person, on stderr: two columns, or one under the other where it is narrow."""
    rows = [(one_line(name), one_line(value)) for name, value in rows]
    columns = shutil.get_terminal_size().columns
    width = max(len(name) for name, _ in rows)
    if width > columns // 2:
        terminal.say("\n".join(f"  {name}\n      {value}" for name, value in rows))
        return
    lines = []
    for name, value in rows:
        wrapped = textwrap.wrap(value, max(20, columns - width - 5)) or [""]
        lines.append(f"  {name.ljust(width)}  {wrapped[0]}")
        lines += [" " * (width + 4) + more for more in wrapped[1:]]
    terminal.say("\n".join(lines))
