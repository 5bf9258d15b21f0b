"""What an answer came to so far."""

from __future__ import annotations

from lmsupply_cli.events import GenerationEvent, ReasoningDelta, TextDelta, TextWasReasoning


class Said:
    """Give it every event of an answer with `take`."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""

    def take(self, event: GenerationEvent) -> None:
        if isinstance(event, TextDelta):
            self.text += event.text
        elif isinstance(event, ReasoningDelta):
            self.reasoning += event.text
        elif isinstance(event, TextWasReasoning):
            self.reasoning += self.text.strip()
            self.text = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning)
