"""Logits processors: each changes the scores of the next token by one rule, in place.

They run in this order: guidance, repetition penalty, presence and frequency penalty, no-repeat n-grams, minimum length,
logit bias. The sampler draws from what is left. A rule that forbids tokens never forbids the last one that the rules
before it left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from lmsupply_cli.engine.matcher import Matcher
from lmsupply_cli.engine.options import GenerationOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


class LogitsProcessor(Protocol):
    """One rule."""

    def read(self, ids: Sequence[int]) -> None:
        """What stands in front of the answer."""

    def accept(self, token: int) -> None:
        """The next token of the answer."""

    def apply(self, scores: Floats) -> None:
        """Change `scores`, of shape (vocabulary,)."""


def make_processors(
    options: GenerationOptions, *, vocabulary: int, ends: Sequence[int], matcher: Matcher | None = None
) -> list[LogitsProcessor]:
    """Those that the options and the guidance ask for; `ends`: the tokens that end the answer."""
    found: list[LogitsProcessor] = [GuidanceMask(matcher, ends)] if matcher else []
    if (penalty := options.penalty(guided=matcher is not None)) != 1.0:
        found.append(RepetitionPenalty(penalty, vocabulary, ends))
    if options.presence_penalty or options.frequency_penalty:
        found.append(PresencePenalty(options.presence_penalty, options.frequency_penalty))
    if options.no_repeat_ngram_size:
        found.append(NoRepeatNgrams(options.no_repeat_ngram_size))
    if options.min_length:
        found.append(MinLength(options.min_length, ends))
    if options.logit_bias:
        found.append(LogitBias(dict(options.logit_bias)))
    return found


class GuidanceMask:
    """Leaves what the guidance allows."""

    def __init__(self, matcher: Matcher, ends: Sequence[int]) -> None:
        self._matcher, self._ends = matcher, ends

    def read(self, ids: Sequence[int]) -> None: ...

    def accept(self, token: int) -> None:
        self._matcher.accept(token)

    def apply(self, scores: Floats) -> None:
        import numpy as np

        allowed = self._matcher.allowed(self._ends)
        forbidden = ~allowed
        if not np.isfinite(
            scores.max(where=allowed, initial=-np.inf)
        ):  # a graph may rule out what the guidance asks for
            scores[allowed] = np.nan_to_num(scores[allowed], nan=_LOWEST, neginf=_LOWEST)
        scores[forbidden] = -np.inf


class RepetitionPenalty:
    """Divides the positive and multiplies the negative scores of tokens that were there (CTRL, arXiv:1909.05858), in
    the prompt too. End tokens are exempt: an answer may end as every turn before it did."""

    def __init__(self, penalty: float, vocabulary: int, ends: Iterable[int]) -> None:
        import numpy as np

        self._penalty, self._ends = np.float32(penalty), frozenset(ends)
        self._is_seen = np.zeros(vocabulary, dtype=bool)
        self._seen: list[int] = []

    def read(self, ids: Sequence[int]) -> None:
        for token in ids:
            self.accept(token)

    def accept(self, token: int) -> None:
        if not self._is_seen[token] and token not in self._ends:
            self._is_seen[token] = True
            self._seen.append(token)

    def apply(self, scores: Floats) -> None:
        import numpy as np

        seen = scores[self._seen]
        with np.errstate(over="ignore"):
            scores[self._seen] = np.where(seen > 0, seen / self._penalty, seen * self._penalty)


class PresencePenalty:
    """Subtracts `presence` from the score of each token of the answer so far, and `frequency` for each time that it is
    there (OpenAI API reference, frequency and presence penalties)."""

    def __init__(self, presence: float, frequency: float) -> None:
        self._presence, self._frequency = presence, frequency
        self._less: dict[int, float] = {}

    def read(self, ids: Sequence[int]) -> None: ...

    def accept(self, token: int) -> None:
        self._less[token] = self._less.get(token, self._presence) + self._frequency

    def apply(self, scores: Floats) -> None:
        if self._less:
            scores[list(self._less)] -= list(self._less.values())


class NoRepeatNgrams:
    """Forbids the token that would repeat a run of `size` tokens, of the prompt or the answer."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tokens: list[int] = []
        self._following: dict[tuple[int, ...], set[int]] = {}

    def read(self, ids: Sequence[int]) -> None:
        for token in ids:
            self.accept(token)

    def accept(self, token: int) -> None:
        self._tokens.append(token)
        if len(self._tokens) >= self._size:
            *start, last = self._tokens[-self._size :]
            self._following.setdefault(tuple(start), set()).add(last)

    def apply(self, scores: Floats) -> None:
        last = tuple(self._tokens[len(self._tokens) - self._size + 1 :])
        _forbid(scores, sorted(self._following.get(last, ())))


class MinLength:
    """Forbids the end before the answer has `least` tokens."""

    def __init__(self, least: int, ends: Sequence[int]) -> None:
        self._left, self._ends = least, list(ends)

    def read(self, ids: Sequence[int]) -> None: ...

    def accept(self, token: int) -> None:
        self._left -= 1

    def apply(self, scores: Floats) -> None:
        if self._left > 0:
            _forbid(scores, self._ends)


class LogitBias:
    """Adds a number to the scores of some tokens."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._tokens, self._bias = list(bias), list(bias.values())

    def read(self, ids: Sequence[int]) -> None: ...

    def accept(self, token: int) -> None: ...

    def apply(self, scores: Floats) -> None:
        scores[self._tokens] += self._bias


_LOWEST = -1e6  # below every score of a token that a model knows


def _forbid(scores: Floats, tokens: list[int]) -> None:
    import numpy as np

    if not tokens:
        return
    before = scores[tokens]
    scores[tokens] = -np.inf
    if scores.max() == -np.inf:
        scores[tokens] = before
