"""Choose the next token from the logits: one sampler for run, chat and Python.

Ours, not the engine's: the engine freezes its options when a generator is made, has no min_p,
and would need a new generator and a new prefill for a new temperature. The order is that of
Hugging Face transformers: repetition penalty (never on end tokens), no-repeat n-grams, minimum length, temperature,
top-k, top-p, min-p, then a draw.

Measured on the shape of Llama-3.2-1B (vocabulary 128,256) in int4 on two cores, the two in turn, medians of five, in
tokens a second of the engine's: greedy 0.99, with our default options 1.00, without top-k 0.97 on random weights, whose
flat scores are the worst case (benchmarks/sampler.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lmsupply_cli.engine.options import GenerationOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.intp]
    Weights = npt.NDArray[np.float64]

# A graph may mark what is out of the question by the least float: that becomes -inf here, which is no fault.
_LAST = -1e6  # below every logit
_TINY = 1e-30  # the logarithm of 0 is none
_BLOCK = 64  # scores whose best is looked at first
_HEAD = 256  # candidates looked at first; enough for top-p unless the model is unsure
_BINS, _BINS_PER_UNIT = 2048, 64  # of scores below the best one


class Sampler:
    """Feed every token of the sequence with `observe`, then `choose`. Ours is deterministic for a seed."""

    def __init__(self, options: GenerationOptions, *, vocabulary: int, eos_ids: Iterable[int]) -> None:
        import numpy as np

        self._np = np
        self._options = options
        self._eos = [i for i in eos_ids if i < vocabulary]
        self._random = np.random.default_rng(options.seed)
        self._seen = np.zeros(vocabulary, dtype=bool)
        self._tokens: list[int] = []
        self._following: dict[tuple[int, ...], set[int]] = {}

    def observe(self, tokens: Sequence[int]) -> None:
        """Tell the penalties what stands in the sequence."""
        size = self._options.no_repeat_ngram_size
        for token in tokens:
            self._seen[token] = token not in self._eos  # an answer may end as every turn before it did
            self._tokens.append(token)
            if size and len(self._tokens) >= size:
                *start, last = self._tokens[-size:]
                self._following.setdefault(tuple(start), set()).add(last)

    def choose(self, logits: Floats, *, completed: int) -> int:
        """The next token, after `completed` tokens of the answer. `logits`: float32 (vocabulary,)."""
        scores = self._penalized(logits, completed)
        if self._options.greedy:
            return int(scores.argmax())
        return self._draw(self._tempered(scores))

    def noisy(self, logits: Floats, *, completed: int) -> Floats:
        """Scores whose best is a draw, also among any part of the tokens: for a guidance that forbids the others.

        Gumbel noise on log-probabilities makes the best one a sample of the softmax (Gumbel-max). What the options
        leave out comes after all that they keep, still in a random order: the guidance may allow nothing else. Of
        several end tokens a guidance allows one: each has the score of the best.
        """
        np, options = self._np, self._options
        scores = self._penalized(logits, completed)
        scores = np.nan_to_num(scores, nan=_LAST, neginf=_LAST, posinf=-_LAST)
        np.clip(scores, _LAST, -_LAST, out=scores)
        if not options.greedy:
            scores = self._with_noise(self._tempered(scores))
        if self._eos:
            scores[self._eos] = scores[self._eos].max()
        return scores

    def _tempered(self, scores: Floats) -> Floats:
        np = self._np
        with np.errstate(over="ignore"):
            divided: Floats = scores / np.float32(self._options.temperature)
        return divided

    def _with_noise(self, scores: Floats) -> Floats:
        np = self._np
        kept, _ = self._candidates(scores)
        out: Floats = self._random.standard_exponential(len(scores), dtype=np.float32)
        out += np.float32(_TINY)
        np.log(out, out=out)  # in place: new arrays of a large vocabulary take longer than the arithmetic
        np.subtract(scores, out, out=out)
        best = out[kept]
        out += np.float32(_LAST)
        out[kept] = best
        return out

    def _penalized(self, logits: Floats, completed: int) -> Floats:
        np, options = self._np, self._options
        scores = logits
        if options.repetition_penalty != 1.0:
            seen = logits[self._seen]
            scores = logits.copy()
            penalty = np.float32(options.repetition_penalty)
            with np.errstate(over="ignore"):
                scores[self._seen] = np.where(seen > 0, seen / penalty, seen * penalty)
        size = options.no_repeat_ngram_size
        banned = self._following.get(tuple(self._tokens[len(self._tokens) - size + 1 :]), set()) if size else set()
        forbidden = [*banned, *(self._eos if completed < options.min_length else [])]
        if forbidden and len(forbidden) < len(scores):
            scores = scores.copy() if scores is logits else scores
            scores[forbidden] = -np.inf
        return scores

    def _draw(self, scores: Floats) -> int:
        np = self._np
        candidates, weights = self._candidates(scores)
        edges = np.cumsum(weights)
        at = int(np.searchsorted(edges, self._random.random() * edges[-1], side="right"))
        return int(candidates[min(at, len(candidates) - 1)])

    def _candidates(self, scores: Floats) -> tuple[Ids, Weights]:
        """The ids that top-k, top-p and min-p keep, and their weights."""
        np, options = self._np, self._options
        highest = scores.max()
        if not np.isfinite(highest):
            return np.array([scores.argmax()]), np.ones(1)
        if options.top_k:
            candidates, weights = self._best(scores, min(options.top_k, len(scores)), highest)
            if options.top_p < 1.0:
                candidates, weights = _within(candidates, weights, options.top_p * weights.sum())
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
            return _within(candidates, weights, wanted)
        bins = np.minimum((highest - scores) * np.float32(_BINS_PER_UNIT), np.float32(_BINS - 1)).astype(np.intp)
        mass = np.bincount(bins, weights=whole, minlength=_BINS)
        before = np.cumsum(mass) - mass
        edge = int(np.searchsorted(before, wanted)) - 1  # the last bin that begins within
        inside, border = np.flatnonzero(bins < edge), np.flatnonzero(bins == edge)
        border = border[np.argsort(-scores[border], kind="stable")]
        last, _ = _within(border, whole[border].astype(np.float64), wanted - before[edge])
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
        return np.flatnonzero(scores >= floor)  # type: ignore[no-any-return]

    def _best(self, scores: Floats, count: int, highest: np.floating[Any]) -> tuple[Ids, Weights]:
        """The `count` best ids by falling score, and their weights relative to the best one."""
        np = self._np
        ids = self._leading(scores, count)
        ids = ids[np.argsort(-scores[ids], kind="stable")[:count]]
        return ids, np.exp((scores[ids] - highest).astype(np.float64))


def _within(ids: Ids, weights: Weights, wanted: float) -> tuple[Ids, Weights]:
    """Of ids by falling weight those before which the sum has not reached `wanted`; at least one."""
    before = weights.cumsum() - weights
    keep = max(1, int((before < wanted).sum()))
    return ids[:keep], weights[:keep]
