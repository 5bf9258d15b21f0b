"""Markdown on a terminal while it is written, at a cost that does not grow with its length.

A finished block is printed once and never touched again. The open one is drawn over itself, at
most 20 times a second, and only its last lines: no more than the screen can show. When it is
finished the drawing is replaced by the whole block, so the scrollback keeps the finished text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import IO, Any

from lmsupply_cli.render.blocks import BlockSplitter
from lmsupply_cli.render.sanitize import sanitize

_INTERVAL_S = 0.05
_TAIL_CHARACTERS = 2000
THEMES = {"auto": "ansi_dark", "dark": "monokai", "light": "ansi_light"}


class MarkdownStream:
    """Feed text with `write`; call `finish` whatever happens."""

    def __init__(
        self, file: IO[str], *, theme: str = "auto", color: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console
        from rich.theme import Theme

        code = "bold blue" if theme == "light" else "bold cyan"  # rich's own has a black background
        styles = Theme({"markdown.code": code, "markdown.code_block": code})
        self._console: Any = Console(file=file, force_terminal=True, no_color=not color, highlight=False, theme=styles)
        self._file = file
        self._theme = THEMES.get(theme, THEMES["auto"])
        self._clock = clock
        self._splitter = BlockSplitter()
        self._drawn: list[int] = []  # cells of each line of the open block on the screen
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
        lines = self._render(block)
        if self._printed:
            lines = ["", *lines]
        self._replace(lines)
        self._drawn, self._printed = [], True

    def _draw(self) -> None:
        self._last_draw = self._clock()
        source = self._splitter.open
        if not source.strip():
            return
        height = max(3, self._console.size.height - 2)
        lines = self._render(_tail(source, height))
        self._replace((["", *lines] if self._printed else lines)[-height:])

    def _render(self, source: str) -> list[str]:
        from lmsupply_cli.render.markdown_elements import Answer

        with self._console.capture() as capture:
            self._console.print(Answer(source, code_theme=self._theme, hyperlinks=False))
        text: str = capture.get()
        lines = text.rstrip("\n").split("\n")
        while len(lines) > 1 and not lines[0].strip():
            del lines[0]
        return [line.rstrip() for line in lines]

    def _replace(self, lines: list[str]) -> None:
        """Write `lines` over what is drawn of the open block, in one write: no flicker."""
        from rich.text import Text

        width = max(1, self._console.size.width)
        rows = sum(
            max(1, math.ceil(cells / width)) for cells in self._drawn
        )  # drawn lines wrap when the window narrows
        back = f"\r\x1b[{rows}A" if rows else ""
        erase = "\x1b[J" if rows else ""
        body = "".join(f"{line}\x1b[K\n" if rows else f"{line}\n" for line in lines)
        if not lines and not rows:
            return
        self._file.write(back + body + erase)
        self._file.flush()
        self._drawn = [Text.from_ansi(line).cell_len for line in lines]


def _tail(source: str, lines: int) -> str:
    """The end of an open block, enough to fill the screen; the opening fence stays."""
    rows = source.split("\n")
    head = rows[0] if rows[0].lstrip().startswith(("```", "~~~")) else None
    if len(rows) > lines + 1:
        rows = rows[-lines:]
        if head is not None:
            rows = [head, *rows]
    text = "\n".join(rows)
    if head is None and len(text) > _TAIL_CHARACTERS:
        cut = text.find(" ", len(text) - _TAIL_CHARACTERS)
        text = text[cut + 1 if cut >= 0 else len(text) - _TAIL_CHARACTERS :]
    return text
