"""The largest context that fits: a decision with its numbers. Automatic values shrink, explicit ones never do."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmsupply_cli.errors import DoesNotFit
from lmsupply_cli.memory.estimate import MemoryEstimate, estimate_memory
from lmsupply_cli.memory.rough import MARGIN
from lmsupply_cli.units import format_bytes

if TYPE_CHECKING:
    from lmsupply_cli.memory.shape import MemoryShape

LEAST_TOKENS = 256  # less context than this is no use


@dataclass(frozen=True, slots=True)
class ContextFit:
    """`limited`: the memory, and not the model or the user, set `context_tokens`."""

    context_tokens: int
    estimate: MemoryEstimate
    budget_bytes: int
    limited: bool


def fit_context(
    shape: MemoryShape, budget_bytes: int, *, wanted_tokens: int | None = None, limited_by_user: bool = False
) -> ContextFit:
    """The context for `budget_bytes` of memory. `limited_by_user`: more is free than the user allows. Raises DoesNotFit
    where the model, or an explicit context, does not fit."""
    usable = int(budget_bytes * MARGIN)
    least = estimate_memory(shape, min(LEAST_TOKENS, shape.context_length))
    if least.peak_bytes > usable:
        raise DoesNotFit(
            f"this model needs {format_bytes(least.peak_bytes)} with the smallest context, but only {format_bytes(usable)} is available",
            hint=f"{'raise `memory_limit`' if limited_by_user else 'close other programs'}, or use a smaller model: lmsupply models --fits",
        )
    largest = _largest(shape, usable)
    if wanted_tokens is None:
        return ContextFit(
            largest, estimate_memory(shape, largest), budget_bytes, limited=largest < shape.context_length
        )
    needed = estimate_memory(shape, wanted_tokens)
    if needed.peak_bytes > usable:
        raise DoesNotFit(
            f"`context={wanted_tokens}` needs {format_bytes(needed.peak_bytes)}, but only {format_bytes(usable)} is available",
            hint=f"`context={largest}` fits",
        )
    return ContextFit(wanted_tokens, needed, budget_bytes, limited=False)


def _largest(shape: MemoryShape, usable_bytes: int) -> int:
    """The most tokens whose peak is no more than `usable_bytes`."""
    if estimate_memory(shape, shape.context_length).peak_bytes <= usable_bytes:
        return shape.context_length
    tokens = range(1, shape.context_length + 1)
    return bisect_right(tokens, usable_bytes, key=lambda count: estimate_memory(shape, count).peak_bytes)
