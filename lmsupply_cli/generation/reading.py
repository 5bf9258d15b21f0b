"""From the engine's events of one answer to those of the generator: thoughts and tool calls are told apart from text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.reasoning import Piece, Splitter, make_splitter
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.generate import Task
from lmsupply_cli.events import (
    Finished,
    FinishReason,
    GenerationEvent,
    Notice,
    Pulse,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    ToolCallDelta,
)
from lmsupply_cli.generation.tools import ToolAnswer
from lmsupply_cli.memory.budget import memory_notice

if TYPE_CHECKING:
    from lmsupply_cli.memory.watch import MemoryWatch


class Watched:
    """Ends an answer when the memory runs short."""

    def __init__(self, watch: MemoryWatch, ending: CancelToken) -> None:
        self._watch, self._ending = watch, ending
        self.critical = False

    def look(self) -> Notice | None:
        state = self._watch.look()
        if state == "critical":
            self.critical = True
            self._ending.cancel()
        return memory_notice(self._watch, state) if state else None


class AnswerReader:
    """`stops`: of an answer that may call tools; those of the task are found by the engine. `ending` is cancelled where
    one comes."""

    def __init__(self, prompt: Prompt, task: Task, stops: Sequence[str], ending: CancelToken) -> None:
        self._reader = _reader(prompt, task, stops, ending)
        self._format_stops, self._pulses = prompt.stop, task.pulses
        self._thought = ReasoningCount()

    def read(self, event: GenerationEvent, written_tokens: int) -> Iterator[GenerationEvent]:
        """What an event of the engine stands for; `written_tokens`: of the answer so far."""
        if not isinstance(event, TextDelta):
            yield event
            return
        pieces = list(self._reader.push(event.text))
        self._thought.add(pieces, written_tokens)
        yield from pieces
        if self._pulses and not pieces:
            yield Pulse()

    def end(self, event: Finished, *, load_s: float, memory: bool) -> Iterator[GenerationEvent]:
        """What was held back, and how the answer ended; `memory`: because that ran short."""
        pieces = list(self._reader.flush())
        self._thought.add(pieces, event.usage.completion_tokens)
        yield from pieces
        stopped_by = self._reader.stop_sequence or event.stop_sequence
        yield replace(
            event,
            finish_reason="memory" if memory else self._reader.reason(event.finish_reason),
            timings=replace(event.timings, load_s=load_s),
            complete=self._reader.complete(event.complete),
            usage=replace(event.usage, reasoning_tokens=self._thought.tokens),
            stop_sequence=None if stopped_by in self._format_stops else stopped_by,
        )


class ReasoningCount:
    """Tokens of an answer that are reasoning, its marks included. A token counts as what came out next."""

    def __init__(self) -> None:
        self.tokens = 0
        self._counted = 0

    def add(self, pieces: Iterable[GenerationEvent], written_tokens: int) -> None:
        """`pieces` came out, after so many tokens of the answer."""
        thought = other = 0
        for piece in pieces:
            if isinstance(piece, ReasoningDelta):
                thought += len(piece.text)
            elif isinstance(piece, TextDelta | ToolCallDelta):
                other += 1 if isinstance(piece, ToolCallDelta) else len(piece.text)
            elif isinstance(piece, TextWasReasoning):
                self.tokens, self._counted = written_tokens, written_tokens
        if thought or other:
            self.tokens += round((written_tokens - self._counted) * thought / (thought + other))
            self._counted = written_tokens


class _Reader(Protocol):
    """Makes events of an answer's text."""

    @property
    def stop_sequence(self) -> str | None:
        """Which stop sequence came that the engine does not know."""

    def push(self, text: str) -> Iterator[GenerationEvent]:
        """What of the text so far can be told apart."""

    def flush(self) -> Iterator[GenerationEvent]:
        """What was held back, at the end."""

    def reason(self, reason: FinishReason) -> FinishReason:
        """Why the answer ended, of which the engine knows `reason`."""

    def complete(self, complete: bool | None) -> bool | None:
        """Whether the guidance accepts the answer, of which the engine knows `complete`."""


class _Text:
    """An answer that is text, with thoughts where `splitter` tells them apart."""

    stop_sequence: str | None = None

    def __init__(self, splitter: Splitter | None) -> None:
        self._splitter = splitter

    def push(self, text: str) -> Iterator[GenerationEvent]:
        return map(_as_event, self._splitter.push(text)) if self._splitter else iter((TextDelta(text),))

    def flush(self) -> Iterator[GenerationEvent]:
        return map(_as_event, self._splitter.flush()) if self._splitter else iter(())

    def reason(self, reason: FinishReason) -> FinishReason:
        return reason

    def complete(self, complete: bool | None) -> bool | None:
        return complete


def _reader(prompt: Prompt, task: Task, stops: Sequence[str], ending: CancelToken) -> _Reader:
    if prompt.tools:
        return ToolAnswer(prompt.tools, stops, ending)
    splits = prompt.escaped and task.matcher is None
    return _Text(make_splitter(prompt.markers, prompt.text) if splits else None)


def _as_event(piece: Piece) -> GenerationEvent:
    if piece.kind == "retract":
        return TextWasReasoning()
    return TextDelta(piece.text) if piece.kind == "text" else ReasoningDelta(piece.text)
