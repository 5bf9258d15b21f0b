"""A whole answer, and the model that gave it, as values."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.catalogue.entry import License
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.errors import EngineError
from lmsupply_cli.events import (
    Finished,
    FinishReason,
    GenerationEvent,
    Limit,
    Notice,
    ReasoningDelta,
    SpeculativeStats,
    TextDelta,
    TextWasReasoning,
    Timings,
    TokenLogprob,
    ToolCall,
    Usage,
)
from lmsupply_cli.units import count


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """`context_length` in tokens, as the model was made; `parameters` in billions where known."""

    ref: str
    path: Path | None
    license: License
    provider: str
    threads: int
    context_length: int
    repo: str = ""
    commit: str = ""
    variant: str = ""
    precision: str | None = None
    parameters: float | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer; `str()` of it is its text.

    `reasoning`: the model's reasoning before the answer; `complete`: whether the guidance accepts the answer, None
    without guidance; `logprobs`: of each token, if requested; `cut_by`: the limit that was reached if the finish reason
    is "length"; `tool_calls`: what the model asks for, each call whole.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    reasoning: str = ""
    speculative: SpeculativeStats | None = None
    complete: bool | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    cut_by: Limit | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def message(self) -> ChatMessage:
        """The answer as the next message of the chat."""
        partial = self.finish_reason not in ("stop", "tool_calls")
        return ChatMessage.assistant(self.text, reasoning=self.reasoning, partial=partial, tool_calls=self.tool_calls)

    def __str__(self) -> str:
        return self.text


class AnswerBuffer:
    """Accumulates the text, the reasoning and the tool calls of one streamed answer."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.logprobs: list[TokenLogprob] = []
        self.tool_calls: list[ToolCall] = []

    def add(self, event: GenerationEvent) -> None:
        if isinstance(event, TextDelta):
            self.text += event.text
        elif isinstance(event, ReasoningDelta):
            self.reasoning += event.text
        elif isinstance(event, TextWasReasoning):
            self.reasoning += self.text.strip()
            self.text = ""
        elif isinstance(event, TokenLogprob):
            self.logprobs.append(event)
        elif isinstance(event, ToolCall):
            self.tool_calls.append(event)

    def completion(self, end: Finished) -> Completion:
        """The answer that ended so."""
        return Completion(
            self.text,
            end.finish_reason,
            end.usage,
            end.timings,
            self.reasoning,
            end.speculative,
            end.complete,
            tuple(self.logprobs),
            end.cut_by,
            tuple(self.tool_calls),
        )

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.tool_calls)


def describe_cut(end: Finished | Completion, *, context_tokens: int) -> str:
    """What cut an answer, such as "cut off after 60 tokens by max_tokens"; "" for one that was not."""
    if end.cut_by is None or end.complete:
        return ""
    limit = "max_tokens" if end.cut_by == "max_tokens" else f"the context of {context_tokens:,} tokens"
    return f"cut off after {count(end.usage.completion_tokens, 'token')} by {limit}"


def cut_notice(end: Finished | Completion, *, context_tokens: int, fitting_tokens: int) -> Notice | None:
    """For an answer that was cut off: by which limit, and what to do; `fitting_tokens`: the largest context that fits."""
    cut = describe_cut(end, context_tokens=context_tokens)
    if end.cut_by == "max_tokens":
        way = "raise `max_tokens`"
    elif context_tokens < fitting_tokens:
        way = "use a larger `context`"
    else:
        way = "no larger one fits this model and memory: ask for a shorter answer, or use another model"
    return Notice("cut_by_length", f"the answer was {cut}; {way}") if cut else None


def complete(events: Iterator[GenerationEvent]) -> Completion:
    """The events of an answer as one value."""
    buffer, last = AnswerBuffer(), None
    for last in events:
        buffer.add(last)
    assert isinstance(last, Finished)
    return buffer.completion(last)


async def complete_async(events: AsyncIterable[GenerationEvent]) -> Completion:
    """As `complete`. Raises EngineError for an answer that ends before it is finished."""
    buffer = AnswerBuffer()
    async for event in events:
        buffer.add(event)
        if isinstance(event, Finished):
            return buffer.completion(event)
    raise EngineError("the answer ended before it was complete")
