"""Frozen values that flow out of the core; producers never draw."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "cancelled", "memory", "tool_calls"]
Limit = Literal["max_tokens", "context"]
Step = Literal["download", "read", "convert"]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class TextWasReasoning:
    """All text so far was reasoning: its end marker came without a start marker."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call: `arguments` is the next part of its JSON text, "" at first. `index`: which call of the
    answer, from 0."""

    index: int
    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. `arguments`: a JSON object as text, as the model wrote it; `values` is the same,
    parsed. `id` is what its result refers to."""

    id: str
    name: str
    arguments: str = "{}"

    @property
    def values(self) -> dict[str, Any]:
        """The arguments by name. Raises ValueError for a text that is no JSON object."""
        found = json.loads(self.arguments, parse_int=_number)
        if not isinstance(found, dict):
            raise ValueError(f"the arguments of {self.name} are no JSON object")
        return found


def _number(digits: str) -> int | float:
    """Python makes no integer of thousands of digits."""
    return int(digits) if len(digits) < 4000 else float(digits)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of the answer as text (a part of a character as U+FFFD), and the natural logarithm of the probability
    that the model gives it, before any rule or temperature; `top`: the most likely tokens in its place."""

    text: str
    token: int
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """`done_tokens` of `total_tokens` of the prompt are in the KV cache, cached ones included."""

    done_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """A step that shows nothing yet. Only whoever asks for pulses gets them, to let others take a turn."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know; `code` is stable, `text` is for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts: the prompt, its cached part, the completion (without the end token), and its part that is
    reasoning."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. `ttft_s` runs from the start of the prefill to the first token."""

    load_s: float = 0.0
    ttft_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(slots=True)
class SpeculativeStats:
    """Draft tokens: how many were proposed and accepted, in how many rounds; of the answer, `tokens_per_s`."""

    proposed: int = 0
    accepted: int = 0
    rounds: int = 0
    tokens_per_s: float = 0.0

    @property
    def rate(self) -> float:
        """Share of the proposed tokens that was accepted."""
        return self.accepted / self.proposed if self.proposed else 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """`speculative`: statistics of speculative decoding, if it was on; `complete`: whether the guidance accepts the
    answer, whatever ended it, None without guidance; `cut_by`: the limit that was reached if the finish reason is
    "length"; `stop_sequence`: which of the options' stop sequences ended the answer, None if none did."""

    finish_reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    timings: Timings = field(default_factory=Timings)
    speculative: SpeculativeStats | None = None
    complete: bool | None = None
    cut_by: Limit | None = None
    stop_sequence: str | None = None


AnswerPiece = TextDelta | ReasoningDelta | ToolCallDelta | ToolCall
GenerationEvent = Notice | PrefillProgress | Pulse | TokenLogprob | TextWasReasoning | AnswerPiece | Finished


@dataclass(frozen=True, slots=True)
class FileProgress:
    """Bytes done and in total, of one file and of all files of a step: "download", "read" for checksums, or "convert" of the
    files that a model is imported from."""

    path: str
    done_bytes: int
    size_bytes: int
    all_done_bytes: int
    all_bytes: int
    step: Step = "download"


class ProgressListener:
    """Override the methods that you need; the base does nothing."""

    def file(self, progress: FileProgress) -> None:
        """Some bytes of a pull arrived, or were read."""

    def notice(self, notice: Notice) -> None:
        """A note about the pull."""
