"""Choose the next token from the logits: one sampler for free and guided answers, batches and speculative decoding.

Ours, not the engine's: the engine freezes its options when a generator is made, has no min_p, and would need a new
generator and a new prefill for a new temperature. The logits processors come first, then temperature, top-k, top-p and
min-p, then one draw. Ties go to the lower id. `benchmarks/sampler.py` reports what a token costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmsupply_cli.engine.matcher import Matcher
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.processors import make_processors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.intp]
    Weights = npt.NDArray[np.float64]

_BLOCK = 64  # scores whose best is looked at first
_HEAD = 256  # candidates looked at first; enough for top-p unless the model is unsure
_BINS, _BINS_PER_UNIT = 2048, 64  # of scores below the best one


@dataclass(frozen=True, slots=True)
class TokenScores:
    """The natural logarithm of the probability that the model gives to a token, before any rule or temperature, and the
    likeliest tokens with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """`read` the prompt, then `choose` and `accept` in turn. Deterministic for a seed."""

    def __init__(
        self, options: GenerationOptions, *, vocabulary: int, eos_ids: Iterable[int], matcher: Matcher | None = None
    ) -> None:
        """`eos_ids`: the tokens that end the answer; `matcher`: what the answer must follow."""
        import numpy as np

        self._np = np
        self._options = options
        ends = sorted(token for token in set(eos_ids) if token < vocabulary)
        self._processors = make_processors(options, vocabulary=vocabulary, ends=ends, matcher=matcher)
        self._random = np.random.default_rng(options.seed)
        self.logprobs: TokenScores | None = None  # of the last choice, where the options ask for them

    def read(self, ids: Sequence[int]) -> None:
        """What stands in front of the answer."""
        for processor in self._processors:
            processor.read(ids)

    def accept(self, token: int) -> None:
        """`token`, which ends nothing, is the next of the answer."""
        for processor in self._processors:
            processor.accept(token)

    def choose(self, logits: Floats) -> int:
        """The next token. `logits`: float32 of shape (vocabulary,), left as they are."""
        token = self._choose(logits)
        if self._options.logprobs:
            self.logprobs = score_token(logits, token, self._options.top_logprobs)
        return token

    def _choose(self, logits: Floats) -> int:
        scores = logits
        if self._processors:
            scores = logits.copy()
            for processor in self._processors:
                processor.apply(scores)
        if self._options.greedy:
            return int(scores.argmax())
        return self._draw(self._tempered(scores))

    def _tempered(self, scores: Floats) -> Floats:
        np = self._np
        with np.errstate(over="ignore"):
            divided: Floats = scores / np.float32(self._options.temperature)
        return divided

    def _draw(self, scores: Floats) -> int:
        np = self._np
        candidates, weights = self._candidates(scores)
        edges = np.cumsum(weights)
        at = int(np.searchsorted(edges, self._random.random() * edges[-1], side="right"))
        last = int(np.searchsorted(edges, edges[-1]))  # what follows it has no weight
        return int(candidates[min(at, last)])

    def _candidates(self, scores: Floats) -> tuple[Ids, Weights]:
        """The ids that top-k, top-p and min-p keep, and their weights."""
        np, options = self._np, self._options
        highest = scores.max()
        if not np.isfinite(highest):
            return np.array([scores.argmax()]), np.ones(1)
        if options.top_k:
            candidates, weights = self._best(scores, min(options.top_k, len(scores)), highest)
            if options.top_p < 1.0:
                candidates, weights = _nucleus_prefix(candidates, weights, options.top_p * weights.sum())
        elif options.top_p < 1.0:
            candidates, weights = self._nucleus(scores, highest)
        else:
            candidates, weights = np.arange(len(scores)), np.exp(scores - highest).astype(np.float64)
        if options.min_p > 0:
            keep_mask = weights >= options.min_p * weights.max()
            candidates, weights = candidates[keep_mask], weights[keep_mask]
        return candidates, weights

    def _nucleus(self, scores: Floats, highest: np.floating[Any]) -> tuple[Ids, Weights]:
        """What top-p keeps of all. A sharp distribution shows it at its head. In a flat one whole bins of scores lie
        within, and only the bin at the edge has to be sorted."""
        np = self._np
        whole = np.exp(scores - highest)
        wanted = self._options.top_p * whole.sum(dtype=np.float64)
        candidates, weights = self._best(scores, min(_HEAD, len(scores)), highest)
        if weights.sum() >= wanted:
            return _nucleus_prefix(candidates, weights, wanted)
        bins = np.minimum((highest - scores) * np.float32(_BINS_PER_UNIT), np.float32(_BINS - 1)).astype(np.intp)
        mass = np.bincount(bins, weights=whole, minlength=_BINS)
        before = np.cumsum(mass) - mass
        edge = int(np.searchsorted(before, wanted)) - 1  # the last bin that begins within
        inside, border = np.flatnonzero(bins < edge), np.flatnonzero(bins == edge)
        border = border[np.argsort(-scores[border], kind="stable")]
        last, _ = _nucleus_prefix(border, whole[border].astype(np.float64), wanted - before[edge])
        kept = np.concatenate([inside, last])
        return kept, whole[kept].astype(np.float64)

    def _leading(self, scores: Floats, count: int) -> Ids:
        """Ids among which the `count` best are. As many blocks have a best score of at least `floor`, so it is passed
        by as many scores: to look at the blocks takes a tenth of the time of a partition of all."""
        np = self._np
        blocks = len(scores) // _BLOCK
        if count > blocks // 2:
            return np.argpartition(scores, len(scores) - count)[len(scores) - count :]  # type: ignore[no-any-return]
        bests = scores[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
        floor = np.partition(bests, blocks - count)[blocks - count]
        floor = max(floor, np.finfo(np.float32).min)  # what a mask forbids is not among them
        return np.flatnonzero(scores >= floor)  # type: ignore[no-any-return]

    def _best(self, scores: Floats, count: int, highest: np.floating[Any]) -> tuple[Ids, Weights]:
        """The `count` best ids by falling score, and their weights relative to the best one."""
        np = self._np
        ids = self._leading(scores, count)
        ids = ids[np.argsort(-scores[ids], kind="stable")[:count]]
        return ids, np.exp((scores[ids] - highest).astype(np.float64))


def score_token(logits: Floats, token: int, top: int = 0) -> TokenScores:
    """The log-softmax of `logits`, float32 of shape (vocabulary,), at `token` and at the `top` likeliest."""
    import numpy as np

    highest = float(logits.max())
    with np.errstate(invalid="ignore"):
        whole = highest + float(np.log(np.exp(logits - np.float32(highest)).sum(dtype=np.float64)))
    best = np.argpartition(logits, len(logits) - top)[len(logits) - top :] if top else np.array([], dtype=np.intp)
    best = best[np.argsort(-logits[best], kind="stable")]
    rows = tuple((int(one), float(logits[one]) - whole) for one in best)
    return TokenScores(token, float(logits[token]) - whole, rows)


def _nucleus_prefix(ids: Ids, weights: Weights, wanted: float) -> tuple[Ids, Weights]:
    """Shortest prefix (weights descending) whose sum reaches `wanted`; never empty."""
    before = weights.cumsum() - weights
    keep = max(1, int((before < wanted).sum()))
    return ids[:keep], weights[:keep]
