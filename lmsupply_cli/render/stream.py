"""Where the text of an answer goes: markdown on a terminal, plain bytes in a pipe."""

from __future__ import annotations

from typing import IO, Protocol

from lmsupply_cli.render.sanitize import sanitize


class TextStream(Protocol):
    def write(self, text: str) -> None:
        """Show a piece of the answer now."""

    def finish(self) -> None:
        """End on a fresh line; called whatever happened."""


class PlainStream:
    """Text as it comes, flushed piece by piece, and a final line break; `clean` for terminals."""

    def __init__(self, file: IO[str], *, clean: bool) -> None:
        self._file = file
        self._clean = clean
        self._last = "\n"

    def write(self, text: str) -> None:
        if text:
            self._file.write(sanitize(text) if self._clean else text)
            self._file.flush()
            self._last = text[-1]

    def finish(self) -> None:
        if self._last != "\n":
            self.write("\n")


class ThoughtStream:
    """What a model thinks, dimmed where that can be; ends on a fresh line."""

    def __init__(self, file: IO[str], *, terminal: bool, color: bool) -> None:
        self._file = file
        self._clean = terminal
        self._dim = terminal and color
        self._last = "\n"

    def write(self, text: str) -> None:
        if text:
            shown = sanitize(text) if self._clean else text
            self._file.write(f"\x1b[2m{shown}\x1b[0m" if self._dim else shown)
            self._file.flush()
            self._last = text[-1]

    def finish(self) -> None:
        if self._last != "\n":
            self._file.write("\n\n")
            self._file.flush()
            self._last = "\n"


class HeldStream:
    """Keeps the whole answer and writes it at the end."""

    def __init__(self, inner: TextStream) -> None:
        self._inner = inner
        self._pieces: list[str] = []

    def write(self, text: str) -> None:
        self._pieces.append(text)

    def finish(self) -> None:
        self._inner.write("".join(self._pieces))
        self._inner.finish()


def choose_stream(file: IO[str], *, terminal: bool, dumb: bool, color: bool, theme: str, hold: bool) -> TextStream:
    """Markdown needs a terminal that can move its cursor, and a theme other than `none`."""
    inner: TextStream
    if terminal and not dumb and theme != "none":
        from lmsupply_cli.render.markdown import MarkdownStream

        inner = MarkdownStream(file, theme=theme, color=color)
    else:
        inner = PlainStream(file, clean=terminal)
    return HeldStream(inner) if hold else inner
