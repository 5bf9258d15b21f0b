"""Beam search over a Decoder: the beams take turns in one cache.

The rules are those of Hugging Face transformers (`GenerationMixin._beam_search`) with early_stopping False. With
s(y) the sum of log P(y_i | prompt, y_1 … y_i-1) over an answer y of n tokens, its end token included:

- of all continuations of the running beams the best (1 + number of end tokens, at least 2) × num_beams by s are looked
  at; one that ends (an end token, or `max_tokens`) is finished if it is among the first num_beams, the best num_beams
  of the others run on;
- the score of a finished answer is s(y) / n ** length_penalty (Wu et al. 2016, "Google's Neural Machine Translation
  System", has it as a length normalization); the best num_beams of them are kept. The prompt counts in neither;
- it ends when there are num_beams finished ones and s / n ** length_penalty of the best running beam is no better than
  the worst of them.

The engine's own beams divide by the length with the prompt, so of two answers the longer one gains too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmsupply_cli.engine.base import Decoder
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.ending import Ending
from lmsupply_cli.engine.prefill import Run, plan_reuse, prefill

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lmsupply_cli.engine.base import Logits

    Scores = npt.NDArray[np.float64]
    # Of the tokens so far, the prompt among them, and the log-probabilities of the next one; the result counts. As in
    # transformers they come before the scores of the beams are added, so a token is ruled out by -inf.
    Processor = Callable[[Sequence[int], Scores], Scores]


@dataclass(frozen=True, slots=True)
class Beam:
    """Tokens of an answer, without its end token, and what it is worth: the sum of the log-probabilities while it runs,
    divided by the length to the power of the length penalty when it is finished."""

    tokens: tuple[int, ...]
    score: float


def beam_search(
    decoder: Decoder,
    ids: Sequence[int],
    *,
    num_beams: int,
    ending: Ending,
    length_penalty: float = 1.0,
    processors: Iterable[Processor] = (),
) -> list[Beam]:
    """The finished answers to `ids` (at least one), the best one first; if cancelled, there may be fewer, or only
    unfinished ones. The decoder's capacity must hold `ids` and the answer; it is left with the tokens of any of the beams."""
    processors, max_tokens = tuple(processors), ending.max_tokens
    looked_at = max(2, 1 + len(ending.eos_ids)) * num_beams
    running, finished = [Beam((), 0.0)], list[Beam]()
    for length in range(1, max_tokens + 1):
        rows = _continued(decoder, ids, running, processors, ending.cancel)
        if rows is None:
            break
        going, divisor = list[Beam](), float(length) ** length_penalty
        for rank, (score, parent, token) in enumerate(_best(rows, looked_at)):
            tokens = running[parent].tokens
            ends = token in ending.eos_ids
            if not ends and length < max_tokens:
                going.append(Beam((*tokens, token), score))
            elif rank < num_beams:
                finished.append(Beam(tokens if ends else (*tokens, token), score / divisor))
        finished = sorted(finished, key=lambda beam: -beam.score)[:num_beams]
        if not going:
            break
        running = going[:num_beams]
        if len(finished) == num_beams and running[0].score / divisor <= finished[-1].score:
            break
    return finished or running


def _continued(
    decoder: Decoder,
    ids: Sequence[int],
    running: Sequence[Beam],
    processors: Sequence[Processor],
    cancel: CancelToken,
) -> list[Scores] | None:
    """What each of the beams is worth with each token after it; None when cancelled."""
    rows: dict[Beam, Scores] = {}
    left = {beam: [*ids, *beam.tokens] for beam in running}
    while left:
        held = decoder.tokens  # continue with the beam that shares the longest prefix, so that no branch is read twice
        beam = max(left, key=lambda beam: plan_reuse(held, left[beam]).rewind_to)
        tokens = left.pop(beam)
        _read(decoder, tokens, cancel)
        if cancel.cancelled:
            return None
        scores = _log_softmax(decoder.logits())
        for process in processors:
            scores = process(tokens, scores)
        rows[beam] = scores + beam.score
    return [rows[beam] for beam in running]


def _read(decoder: Decoder, tokens: Sequence[int], cancel: CancelToken) -> None:
    """Make `tokens` those of the decoder."""
    for _ in prefill(decoder, tokens, run=Run(), cancel=cancel):
        pass


def _log_softmax(logits: Logits) -> Scores:
    import numpy as np

    scores: Scores = logits.astype(np.float64)
    scores -= scores.max()
    scores -= np.log(np.exp(scores).sum())
    return scores


def _best(rows: Sequence[Scores], count: int) -> list[tuple[float, int, int]]:
    """Score, row and token of the `count` best ones, by falling score; of equal ones the first. Those that are ruled
    out are left out."""
    import numpy as np

    found: list[tuple[float, int, int]] = []
    for row, scores in enumerate(rows):
        floor = np.partition(scores, -count)[-count] if count < len(scores) else -np.inf
        tokens = np.flatnonzero((scores >= floor) & (scores > -np.inf))
        found += [(float(scores[token]), row, int(token)) for token in tokens]
    return sorted(found, key=lambda one: (-one[0], one[1], one[2]))[:count]
