"""A table for people: aligned, as wide as it needs to be; a narrow terminal hides whole columns and says so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from lmsupply_cli.render.sanitize import one_line
from lmsupply_cli.render.style import paint
from lmsupply_cli.render.terminal import Terminal

_GAP = 2


class Column(NamedTuple):
    """`right`: for numbers. `rank`: the column with the highest one is hidden first; 0 is never hidden. A column
    without any text is left out."""

    name: str
    cells: Sequence[str]
    right: bool = False
    rank: int = 0


def print_table(
    terminal: Terminal, columns: Sequence[Column], *, dim: Collection[int] = (), more: str = "--json"
) -> None:
    """On stdout, with a bold header; the rows in `dim` are dimmed. `more`: where hidden columns are found."""
    columns = [column for column in columns if any(column.cells)]
    shown = [(column, [column.name, *(one_line(cell) for cell in column.cells)]) for column in columns]
    hidden: list[str] = []
    while _width(shown) > terminal.width and any(column.rank for column, _ in shown):
        last = max(shown, key=lambda pair: pair[0].rank)
        shown.remove(last)
        hidden.append(last[0].name)
    widths = [max(map(len, cells)) for _, cells in shown]
    for row in range(max((len(cells) for _, cells in shown), default=0)):
        cells = [
            cells[row].rjust(width) if column.right else cells[row].ljust(width)
            for (column, cells), width in zip(shown, widths, strict=True)
        ]
        line = (" " * _GAP).join(cells).rstrip()
        if row == 0:
            line = paint(line, "heading", terminal.stdout)
        elif row - 1 in dim:
            line = paint(line, "aside", terminal.stdout)
        terminal.styled(line)
    if hidden:
        names = ", ".join(column.name for column in columns if column.name in hidden)
        terminal.remark(f"Hidden: {names}. Widen the terminal or use {more}.")


def _width(shown: Sequence[tuple[Column, list[str]]]) -> int:
    return sum(max(map(len, cells)) for _, cells in shown) + _GAP * (len(shown) - 1)
