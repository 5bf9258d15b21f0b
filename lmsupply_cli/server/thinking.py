"""How much a model is asked to think, from the words of the APIs."""

from __future__ import annotations

from typing import Literal, NamedTuple

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_OURS = {"minimal": "low", "xhigh": "high", "max": "high"}  # chat formats know three


class Thinking(NamedTuple):
    """For the fields of AnswerRequest with these names."""

    enable_thinking: bool | None = None
    reasoning_effort: str | None = None


def thinking_of(effort: str | None, *, enable: bool | None = None) -> Thinking:
    """`effort`: "none" is no thinking at all; `enable`: a switch beside it, None where there is none."""
    if effort == "none":
        return Thinking(False)
    return Thinking(enable, None if enable is False else _OURS.get(effort or "", effort))
