"""Names and values, one a line: aligned and quiet in a pipe, easy on the eye on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lmsupply_cli.render.terminal import Terminal

Row = tuple[str, str]


def print_sheet(terminal: Terminal, rows: Sequence[Row], *, width: int) -> None:
    """`width`: columns of the names. On a terminal a name that repeats is shown once."""
    if not terminal.stdout_tty or terminal.dumb:
        for name, value in rows:
            terminal.data(name.ljust(width) + value)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=width - 1, no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    before = None
    for name, value in rows:
        table.add_row("" if name == before else name, Text(value))
        before = name
    Console(file=terminal.stdout, no_color=not terminal.colour, highlight=False).print(table)
