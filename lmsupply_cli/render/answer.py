"""Show an answer while it is made: Markdown in a terminal, plain bytes in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Protocol

from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    ToolCallDelta,
)
from lmsupply_cli.render.sanitize import sanitize
from lmsupply_cli.render.terminal import Status

_SHOW_TOKENS = 256  # fewer are read before a line about it could be


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


def show_answer(
    events: Iterator[GenerationEvent],
    stream: TextStream,
    status: Status,
    *,
    notice: Callable[[Notice], None],
    thoughts: TextStream | None = None,
) -> Finished:
    """Text to the stream, a long prefill to the status line, reasoning to `thoughts` (None: a line says that the model
    thinks). Whatever is raised, what came before is shown."""
    try:
        for event in events:
            if _on_status(event, status, thinking=thoughts is None):
                continue
            if isinstance(event, Notice):
                notice(event)
            elif isinstance(event, ReasoningDelta) and thoughts is not None:
                thoughts.write(event.text)
            elif isinstance(event, TextDelta):
                if thoughts is not None:
                    thoughts.finish()
                stream.write(event.text)
            elif isinstance(event, TextWasReasoning):
                notice(Notice("text_was_reasoning", "the text so far was reasoning, not the answer"))
            elif isinstance(event, Finished):
                return event
    finally:
        status.clear()
        if thoughts is not None:
            thoughts.finish()
        stream.finish()
    raise AssertionError("an answer always ends with Finished")


def _on_status(event: GenerationEvent, status: Status, *, thinking: bool) -> bool:
    """Whether the event is one for the status line, and it is there; `thinking`: reasoning too."""
    if isinstance(event, PrefillProgress):
        if event.total_tokens - event.done_tokens >= _SHOW_TOKENS:
            status.show(f"reading the prompt: {event.done_tokens:,} of {event.total_tokens:,} tokens")
    elif isinstance(event, ToolCallDelta):
        status.show(f"writing a call of {event.name} …")
    elif thinking and isinstance(event, ReasoningDelta):
        status.show("thinking …")
    else:
        status.clear()
        return False
    return True
