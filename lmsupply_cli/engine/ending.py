"""When an answer ends."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.prefill import Run


@dataclass(frozen=True, slots=True)
class Ending:
    """An answer ends at one of `eos_ids`, after `max_tokens`, or when `cancel` is called."""

    max_tokens: int
    eos_ids: Collection[int]
    cancel: CancelToken = field(default_factory=CancelToken)

    def is_cancelled(self, run: Run) -> bool:
        """Noted in `run`."""
        if self.cancel.cancelled:
            run.finish_reason = "cancelled"
        return self.cancel.cancelled

    def is_full(self, run: Run) -> bool:
        """Whether the last token was the last that is allowed. Noted in `run`."""
        full = run.completion_tokens >= self.max_tokens
        if full:
            run.finish_reason = "length"
        return full
