"""When an answer ends: at an end token, a stop sequence or a limit, or when it is cancelled."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from lmsupply_cli.encoding import partial_match
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


class StopSequenceDetector:
    """Finds stop sequences in text that arrives in pieces. Feed text with `push`; it gives back what can be shown.

    The stop that ends first wins, the longest of those that end together; neither it nor what
    follows is given back. Text is held back only while it could still begin a stop, so the
    result does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(dict.fromkeys(s for s in stops if s))
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """Text that is safe to show now; "" after a match."""
        if self.matched is not None:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, at, self.matched = min(found)
            self._held = ""
            return text[:at]
        keep = max(partial_match(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held
