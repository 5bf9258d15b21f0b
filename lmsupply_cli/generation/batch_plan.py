"""Prompts in a batch or one after the other: what a batch saves in decoding, against what it reads again.

One after the other, a prompt reads only what the prompt before it did not have: with long instructions in front of all,
that is most of it. In a batch every row reads its whole prompt. What reading and writing cost is measured on the
answers so far; until there are any, costs of a usual machine hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lmsupply_cli.engine.prefill import plan_reuse
from lmsupply_cli.events import Finished
from lmsupply_cli.generation.completion import Completion

NOTABLE_TOKENS = 32  # of a prompt that it shares with the one before; a chat format alone has fewer
_WORTH_A_TRY = 1.5  # a first batch may look so many times slower by usual costs


@dataclass
class Rate:
    """Seconds for a token, as measured over many; `usual` until then."""

    usual: float
    tokens: int = 0
    seconds: float = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        if tokens > 0 and seconds > 0:
            self.tokens += tokens
            self.seconds += seconds

    @property
    def cost(self) -> float:
        return self.seconds / self.tokens if self.tokens else self.usual


@dataclass
class Costs:
    """Seconds of a token that is read or written, alone and in a batch. Until they are measured, they are ratios to one that is written
    alone: of the shape of a 1B model in int4 on a CPU (`benchmarks/batch.py`)."""

    read: Rate = field(default_factory=lambda: Rate(0.3))
    write: Rate = field(default_factory=lambda: Rate(1.0))
    batch_read: Rate = field(default_factory=lambda: Rate(0.3))
    batch_write: Rate = field(default_factory=lambda: Rate(0.35))

    def add(self, answer: Completion | Finished) -> None:
        """Of an answer that was given alone."""
        usage, timings = answer.usage, answer.timings
        self.read.add(usage.prompt_tokens - usage.cached_tokens, timings.prefill_s)
        self.write.add(usage.completion_tokens, timings.decode_s)
        self._scale()

    def add_batch(self, answers: Sequence[Completion | Finished]) -> None:
        """Of answers that were given together."""
        timings, rows = max((one.timings for one in answers), key=lambda one: one.decode_s), len(answers)
        self.batch_read.add(rows * max(one.usage.prompt_tokens for one in answers), timings.prefill_s)
        self.batch_write.add(rows * max(one.usage.completion_tokens for one in answers), timings.decode_s)

    def _scale(self) -> None:
        """What is not measured yet follows from what is."""
        unit = self.write.cost
        self.batch_write.usual = 0.35 * unit
        self.read.usual = 0.3 * unit
        self.batch_read.usual = self.read.cost

    @property
    def batch_is_measured(self) -> bool:
        return self.batch_write.tokens > 0


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How the next `count` prompts are answered; `reason` where that is one after the other."""

    count: int
    together: bool
    reason: str = ""


class BatchPlanner:
    """Chooses by how long the answers were so far and what they cost."""

    def __init__(self) -> None:
        self.costs = Costs()
        self._lengths: deque[int] = deque(maxlen=8)

    def record(self, answer: Completion | Finished) -> None:
        """An answer that was given alone."""
        self._lengths.append(answer.usage.completion_tokens)
        self.costs.add(answer)

    def record_batch(self, answers: Sequence[Completion | Finished]) -> None:
        """Answers that were given together."""
        self._lengths.extend(answer.usage.completion_tokens for answer in answers)
        self.costs.add_batch(answers)

    def choose(self, prompts: Sequence[Sequence[int]], *, cached_tokens: int = 0) -> BatchPlan:
        """`cached_tokens`: of the first prompt, in the prompt cache."""
        count = len(prompts)
        if count == 1:
            return BatchPlan(1, together=False)
        shared = [cached_tokens]
        shared += [plan_reuse(before, ids).rewind_to for before, ids in pairwise(prompts)]
        if not self._lengths:
            if max(shared) <= NOTABLE_TOKENS:
                return BatchPlan(count, together=True)
            return BatchPlan(1, together=False)  # its answer shows how long they are
        costs, whole = self.costs, sum(map(len, prompts))
        alone = (whole - sum(shared)) * costs.read.cost
        alone += count * sum(self._lengths) / len(self._lengths) * costs.write.cost
        rows = count * max(map(len, prompts)) * costs.batch_read.cost
        rows += count * max(self._lengths) * costs.batch_write.cost
        if rows < alone * (1.0 if costs.batch_is_measured else _WORTH_A_TRY):
            return BatchPlan(count, together=True)
        return BatchPlan(
            count,
            together=False,
            reason=f"a batch would read the {max(shared):,} shared tokens again for each prompt"
            if max(shared) > NOTABLE_TOKENS
            else "their answers are short, or vary too much in length",
        )
