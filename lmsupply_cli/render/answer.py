"""Show an answer while it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
)
from lmsupply_cli.render.status import Status
from lmsupply_cli.render.stream import TextStream

_SHOW_TOKENS = 256  # fewer are read before a line about it could be


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
    elif thinking and isinstance(event, ReasoningDelta):
        status.show("thinking …")
    else:
        status.clear()
        return False
    return True
