"""Choose the next token from the logits: one sampler for run, chat and Python.

Ours, not the engine's: the engine freezes its options when a generator is made, has no min_p,
and would need a new generator and a new prefill for a new temperature. The order is that of
Hugging Face transformers: repetition penalty (never on end tokens), no-repeat n-grams, minimum length, temperature,
top-k, top-p, min-p, then a draw.

Measured on the shape of Llama-3.2-1B (vocabulary 128,256) in int4 on two cores, the two in turn,
medians of three: greedy 35.7 tokens/s against the engine's 36.0, with our default options 32.3
against 32.7. That is 0.3 ms a token (benchmarks/sampler.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lmsupply_cli.engine.options import GenerationOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

_LAST = -1e6  # below every logit
_HEADS = (256, 8192)  # candidates sorted first; enough for top-p unless the model is very unsure


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
        return self._draw(scores / self._np.float32(self._options.temperature))

    def noisy(self, logits: Floats, *, completed: int) -> Floats:
        """Scores whose best is a draw, also among any part of the tokens: for a guidance that forbids the others.

        Gumbel noise on log-probabilities makes the best one a sample of the softmax (Gumbel-max). What the options
        leave out comes after all that they keep, still in a random order: the guidance may allow nothing else.
        """
        np, options = self._np, self._options
        scores = self._penalized(logits, completed)
        scores = np.nan_to_num(scores, nan=_LAST, neginf=_LAST, posinf=-_LAST)
        if options.greedy:
            return scores  # type: ignore[no-any-return]
        scores = scores / np.float32(options.temperature)
        noise = -np.log(self._random.exponential(size=len(scores)) + 1e-30)
        kept, _ = self._candidates(scores)
        held = np.ones(len(scores), dtype=bool)
        held[kept] = False
        out: Floats = (scores + noise + np.where(held, _LAST, 0.0)).astype(np.float32)
        return out

    def _penalized(self, logits: Floats, completed: int) -> Floats:
        np, options = self._np, self._options
        scores = logits
        if options.repetition_penalty != 1.0:
            seen = logits[self._seen]
            scores = logits.copy()
            penalty = np.float32(options.repetition_penalty)
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

    def _candidates(self, scores: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """The ids that top-k, top-p and min-p keep, the best first, and their weights."""
        np, options = self._np, self._options
        highest = scores.max()
        if not np.isfinite(highest):
            return np.array([scores.argmax()]), np.ones(1)
        limit = min(options.top_k or len(scores), len(scores))
        if options.top_k or options.top_p >= 1.0:
            candidates, weights = self._best(scores, limit, highest)
            total = weights.sum()
        else:  # without top-k, sort only as many as top-p may keep
            total = np.exp(scores - highest).sum(dtype=np.float64)
            for head in (*(size for size in _HEADS if size < limit), limit):
                candidates, weights = self._best(scores, head, highest)
                if weights.sum() >= options.top_p * total:
                    break
        if options.top_p < 1.0:
            before = np.cumsum(weights) - weights  # a token stays while those before it have not reached top_p
            keep = max(1, int((before < options.top_p * total).sum()))
            candidates, weights = candidates[:keep], weights[:keep]
        if options.min_p > 0:
            keep_mask = weights >= options.min_p * weights.max()
            candidates, weights = candidates[keep_mask], weights[keep_mask]
        return candidates, weights

    def _best(self, scores: Floats, count: int, highest: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """The `count` best ids by falling score, and their weights relative to the best one."""
        np = self._np
        ids = np.argpartition(scores, len(scores) - count)[len(scores) - count :]
        ids = ids[np.argsort(-scores[ids], kind="stable")]
        return ids, np.exp((scores[ids] - highest).astype(np.float64))
