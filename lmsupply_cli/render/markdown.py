"""Markdown in a terminal while it is written, at a cost that does not grow with its length.

A finished block is printed once and never touched again. The open one is drawn over itself, at
most 20 times a second, and only its last lines: no more than the screen can show. When it is
finished the drawing is replaced by the whole block, so the scrollback keeps the finished text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from lmsupply_cli.render.blocks import BlockSplitter
from lmsupply_cli.render.sanitize import sanitize

if TYPE_CHECKING:
    from rich.text import Text

_INTERVAL_S = 0.05
_TAIL_CHARACTERS = 2000
THEMES = {"auto": "ansi_dark", "dark": "monokai", "light": "ansi_light"}


class MarkdownStream:
    """Feed text with `write`; call `finish` whatever happens."""

    def __init__(
        self, file: IO[str], *, theme: str = "auto", color: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console

        self._console = Console(file=file, force_terminal=True, no_color=not color, highlight=False)
        self._file = file
        self._code_style = "bold blue" if theme == "light" else "bold cyan"
        self._theme = THEMES.get(theme, THEMES["auto"])
        self._clock = clock
        self._splitter = BlockSplitter()
        self._drawn: list[str] = []  # the lines of the open block that are on the screen, without styles
        self._last_draw = -math.inf
        self._printed = False

    def write(self, text: str) -> None:
        finished = self._splitter.push(sanitize(text))
        for block in finished:
            self._print(block)
        if self._clock() - self._last_draw >= _INTERVAL_S:
            self._draw()

    def finish(self) -> None:
        """Print what is left; the cursor ends on a fresh line."""
        left = self._splitter.flush()
        if left:
            self._print(left)
        else:
            self._replace([])

    def _print(self, block: str) -> None:
        self._replace(self._lines(block))
        self._drawn, self._printed = [], True

    def _draw(self) -> None:
        from lmsupply_cli.render.markdown_layout import last_rows

        self._last_draw = self._clock()
        source = self._splitter.open
        if not source.strip():
            return
        rows = max(1, self._console.height - 2)
        self._replace(
            last_rows(self._lines(_tail(source, rows, fenced=self._splitter.in_fence)), rows, self._console.width)
        )

    def _lines(self, source: str) -> list[Text]:
        from rich.text import Text

        from lmsupply_cli.render.markdown_layout import Look, layout

        lines = layout(source, self._console, Look(self._code_style, self._theme))
        return [Text(), *lines] if self._printed else lines

    def _replace(self, lines: list[Text]) -> None:
        """Write `lines` over what is drawn of the open block, in one write: no flicker."""
        from rich.segment import Segments

        from lmsupply_cli.render.markdown_layout import rows_of

        rows = rows_of(self._drawn, self._console.width) if self._drawn else 0
        if not lines and not rows:
            return
        with self._console.capture() as capture:
            for line in lines:
                self._console.print(Segments(line.render(self._console, end="\n")), end="", soft_wrap=True)
        # erased first: after a line of exactly the width, "erase to the end" would take its last character
        back = f"\r\x1b[{rows}A\x1b[J" if rows else ""
        self._file.write(back + capture.get())
        self._file.flush()
        self._drawn = [line.plain for line in lines]


def _tail(source: str, lines: int, *, fenced: bool) -> str:
    """The end of an open block, enough to fill the screen; a `fenced` block keeps its opening fence."""
    head = source.split("\n", 1)[0] + "\n" if fenced else ""
    text = source[len(head) :]
    rows = text.split("\n")
    if len(rows) > lines + 1:
        text = "\n".join(rows[-lines:])
    room = _TAIL_CHARACTERS if not head else 10 * _TAIL_CHARACTERS
    if len(text) > room:
        cut = text.find(" ", len(text) - room)
        text = text[cut + 1 if cut >= 0 else len(text) - room :]
    return head + text
