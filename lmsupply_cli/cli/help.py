"""How help texts are laid out: readable in narrow windows too, with bold headings."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any

from typer._click.core import Context
from typer._click.formatting import HelpFormatter

from lmsupply_cli.render.style import paint

_NARROW = 60  # columns; below that the text of an option stands under it


class HelpText(HelpFormatter):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.width = min(self.width, max(16, shutil.get_terminal_size().columns - 2))  # click's least is 50

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        if self.width < _NARROW - 2:
            col_max = 4
        super().write_dl(rows, col_max, col_spacing)

    def write_heading(self, heading: str) -> None:
        self.write(f"{'':>{self.current_indent}}{paint(heading + ':', 'heading', sys.stdout)}\n")


class HelpContext(Context):
    formatter_class = HelpText
