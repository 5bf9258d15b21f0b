"""What a WorkerPool did so far, as frozen values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lmsupply_cli.events import Finished, Usage


@dataclass(frozen=True, slots=True)
class ModelStats:
    """Of one model, since the pool was made. `evictions`: to make room; `unloads`: after their keep-alive time or on
    request; `answers`: by finish reason, "error" for those that failed; tokens: of finished answers."""

    ref: str
    loads: int = 0
    failed_loads: int = 0
    evictions: int = 0
    unloads: int = 0
    crashes: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    answers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerPoolStats:
    """`waiting`: requests that wait for a load or for room; `refused`: those that were not answered because the queue was
    full, or because they waited too long."""

    models: tuple[ModelStats, ...] = ()
    waiting: int = 0
    refused: int = 0

    @property
    def loads(self) -> int:
        """Of all models."""
        return sum(model.loads for model in self.models)

    @property
    def evictions(self) -> int:
        """Of all models."""
        return sum(model.evictions for model in self.models)

    @property
    def crashes(self) -> int:
        """Of all models."""
        return sum(model.crashes for model in self.models)


class Tally:
    """Counts by model."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._answers: dict[str, Counter[str]] = {}

    def add(self, ref: str, name: str, number: int = 1) -> None:
        """`name`: of a field of ModelStats."""
        self._counts.setdefault(ref, Counter())[name] += number

    def answered(self, ref: str, reason: str, usage: Usage | None = None) -> None:
        """`reason`: why it ended."""
        self._answers.setdefault(ref, Counter())[reason] += 1
        if usage:
            self.add(ref, "prompt_tokens", usage.prompt_tokens)
            self.add(ref, "cached_tokens", usage.cached_tokens)
            self.add(ref, "completion_tokens", usage.completion_tokens)

    def finished(self, ref: str, end: Finished) -> None:
        """An answer that came to its end."""
        self.answered(ref, end.finish_reason, end.usage)

    def models(self) -> tuple[ModelStats, ...]:
        """By ref."""
        refs = sorted(self._counts.keys() | self._answers.keys())
        return tuple(ModelStats(ref, answers=dict(self._answers.get(ref, {})), **self._of(ref)) for ref in refs)

    def _of(self, ref: str) -> dict[str, Any]:
        return dict(self._counts.get(ref, {}))
