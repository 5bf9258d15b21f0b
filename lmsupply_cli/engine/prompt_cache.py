"""What of a decoder's tokens serves the next prompt: a pure plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reuse:
    """Rewind to `rewind_to` tokens, then append `append` (never empty)."""

    rewind_to: int
    append: tuple[int, ...]


def plan_reuse(cached: Sequence[int], wanted: Sequence[int]) -> Reuse:
    """The longest common prefix, less one token where needed: the engine gives logits only after an append."""
    common = 0
    for have, want in zip(cached, wanted, strict=False):
        if have != want:
            break
        common += 1
    common = min(common, len(wanted) - 1)
    return Reuse(common, tuple(wanted[common:]))
