"""A whole answer, and the model that gave it, as values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.catalogue.entry import Licence
from lmsupply_cli.events import Finished, FinishReason, GenerationEvent, SpeculativeStats, Timings, Usage
from lmsupply_cli.runtime.said import Said


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """`context_length` in tokens, as the model was made; `parameters` in billions where known."""

    ref: str
    path: Path | None
    licence: Licence
    provider: str
    threads: int
    context_length: int
    repo: str = ""
    commit: str = ""
    variant: str = ""
    precision: str | None = None
    parameters: float | None = None
    size_bytes: int = 0

    @property
    def id(self) -> str:
        """The ref that it was loaded by."""
        return self.ref


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer; `str()` of it is its text. `reasoning`: what the model thought before it."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    reasoning: str = ""
    speculative: SpeculativeStats | None = None

    def __str__(self) -> str:
        return self.text


def complete(events: Iterator[GenerationEvent]) -> Completion:
    """The events of an answer as one value."""
    said, last = Said(), None
    for last in events:
        said.take(last)
    assert isinstance(last, Finished)
    return Completion(said.text, last.finish_reason, last.usage, last.timings, said.reasoning, last.speculative)
