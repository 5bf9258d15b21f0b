"""Which of a decoder's tokens the next prompt can reuse, and in which pieces the rest is read: pure plans.

On a CPU one row and many rows go through different kernels, which round differently in int4 and int8. So a prompt is
read in pieces of several tokens always, whether it is fresh, cached or cached in part: then the scores are the same to
the last bit, and so is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LEAST = 4  # tokens of a piece, where the prompt has as many


@dataclass(frozen=True, slots=True)
class Reuse:
    """Rewind to `rewind_to` tokens, then append `append` (never empty)."""

    rewind_to: int
    append: tuple[int, ...]


def plan_reuse(cached: Sequence[int], wanted: Sequence[int]) -> Reuse:
    """The longest common prefix, shortened so that at least `LEAST` tokens are read again."""
    common = 0
    for have, want in zip(cached, wanted, strict=False):
        if have != want:
            break
        common += 1
    common = max(0, min(common, len(wanted) - LEAST))
    return Reuse(common, tuple(wanted[common:]))


def plan_chunks(count: int, *, chunk: int, first: int = 0) -> Iterator[int]:
    """Sizes of the pieces of `count` tokens: `chunk` each, the first of at least `first`, the last of at least `LEAST`
    where there are as many."""
    while count > 0:
        size = min(count, max(chunk, first))
        if 0 < count - size < LEAST:
            size = size - LEAST if size - LEAST >= max(first, 1) else count
        yield size
        count -= size
        first = 0
