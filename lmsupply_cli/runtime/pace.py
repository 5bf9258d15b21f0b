"""Together or one after the other: what many rows save in writing, against what they read again.

One after the other, a prompt reads only what the prompt before it did not have: with long instructions in front of all,
that is most of it. Together, every row reads its whole prompt. The choice follows from numbers of tokens alone, so that
a file of prompts is answered the same way each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lmsupply_cli.engine.prompt_cache import plan_reuse

NOTABLE_TOKENS = 32  # of a prompt that it shares with the one before; a chat format alone has fewer


@dataclass(frozen=True, slots=True)
class Costs:
    """Of a token that is read, and of one that is written in a batch of eight, against one that is written alone."""

    read: float
    write: float


# CPU: measured on the shape of a 1B model in int4, two cores with AVX2 (benchmarks/batch.py). GPU: not measured; reading
# runs in parallel there.
CPU, GPU = Costs(read=0.5, write=0.47), Costs(read=0.05, write=0.2)


@dataclass(frozen=True, slots=True)
class Choice:
    """How the next `count` prompts are answered; `reason` where that is one after the other."""

    count: int
    together: bool
    reason: str = ""


class Pace:
    """Chooses by how long the answers were so far."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._lengths: deque[int] = deque(maxlen=8)

    def saw(self, completion_tokens: int) -> None:
        self._lengths.append(completion_tokens)

    def choose(self, prompts: Sequence[Sequence[int]], *, cached_tokens: int = 0) -> Choice:
        """`cached_tokens`: of the first prompt, in the prompt cache."""
        count = len(prompts)
        if count == 1:
            return Choice(1, together=False)
        shared = [cached_tokens]
        shared += [plan_reuse(before, ids).rewind_to for before, ids in pairwise(prompts)]
        if not self._lengths:
            if max(shared) <= NOTABLE_TOKENS:
                return Choice(count, together=True)
            return Choice(1, together=False)  # its answer shows how long they are
        whole = sum(map(len, prompts))
        alone = (whole - sum(shared)) * self._costs.read + count * sum(self._lengths) / len(self._lengths)
        rows = count * max(map(len, prompts)) * self._costs.read + count * max(self._lengths) * self._costs.write
        if rows < alone:
            return Choice(count, together=True)
        return Choice(
            count,
            together=False,
            reason=f"together, each would read again the {max(shared):,} tokens that they share"
            if max(shared) > NOTABLE_TOKENS
            else "their answers are short, or far apart in length",
        )
