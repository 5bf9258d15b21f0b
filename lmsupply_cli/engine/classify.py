"""How likely given continuations of a prompt are: exact log probabilities, read from the model's scores.

The prompt is read once. For each continuation the decoder is rewound to the end of the prompt and reads the
continuation in one append; the scores after each token are those of the next one. A continuation whose tokens begin
another one is read with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmsupply_cli.engine.base import PREFILL_CHUNK, Decoder
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.prefill import LEAST, Run, prefill
from lmsupply_cli.errors import DoesNotFit, EngineError, UsageError

if TYPE_CHECKING:
    from lmsupply_cli.engine.base import Logits


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens to read after the prompt; `serves`: the continuations, by index, whose scores are found on the way."""

    tokens: tuple[int, ...]
    serves: tuple[int, ...]


def check_continuations(continuations: Sequence[Sequence[int]]) -> None:
    """Raises UsageError for one without tokens, and for two that have the same tokens."""
    seen: dict[tuple[int, ...], int] = {}
    for number, tokens in enumerate(continuations, 1):
        if not tokens:
            raise UsageError(f"choice {number} has no tokens", hint="leave it out")
        first = seen.setdefault(tuple(tokens), number)
        if first != number:
            raise UsageError(f"choices {first} and {number} have the same tokens", hint="leave one of them out")


def check_room(prompt_tokens: int, continuations: Sequence[Sequence[int]], context_tokens: int) -> None:
    """Raises DoesNotFit if the context does not hold the prompt and the longest continuation."""
    longest = max(map(len, continuations))
    if prompt_tokens + longest > context_tokens:
        raise DoesNotFit(
            f"the prompt has {prompt_tokens:,} tokens and the longest choice {longest:,}, "
            f"but the context has {context_tokens:,}",
            hint="use a shorter prompt, a larger `context` or a model with a longer one",
        )


def plan_feeds(continuations: Sequence[Sequence[int]]) -> list[Feed]:
    """The last token of a continuation is never read. In ascending order one that begins others stands directly
    before one of them, so it is enough to compare neighbors."""
    feeds: list[Feed] = []
    for index in sorted(range(len(continuations)), key=lambda i: tuple(continuations[i][:-1]), reverse=True):
        tokens = tuple(continuations[index][:-1])
        if feeds and feeds[-1].tokens[: len(tokens)] == tokens:
            feeds[-1] = Feed(feeds[-1].tokens, (*feeds[-1].serves, index))
        else:
            feeds.append(Feed(tokens, (index,)))
    return feeds


def score_continuations(
    decoder: Decoder, ids: Sequence[int], continuations: Sequence[Sequence[int]], *, run: Run | None = None
) -> list[float]:
    """The natural logarithm of the probability of each continuation after the prompt `ids`: the product of the
    probabilities of its tokens, each by the softmax of the scores as the model gives them.

    The decoder may hold any tokens before; afterwards it holds the prompt and what was read last. `run` is filled.
    Raises UsageError, DoesNotFit before any work; EngineError for scores that are not numbers.
    """
    check_continuations(continuations)
    check_room(len(ids), continuations, decoder.capacity_tokens)
    for _ in prefill(decoder, ids, run=run or Run(), cancel=CancelToken()):
        pass
    reader = _Reader(decoder, ids)
    found = [0.0] * len(continuations)
    for feed in plan_feeds(continuations):
        for place, row in enumerate(reader.rows(feed.tokens)):
            served = [index for index in feed.serves if place < len(continuations[index])]
            logprobs = _logprobs(row, [continuations[index][place] for index in served])
            for index, logprob in zip(served, logprobs, strict=True):
                found[index] += logprob
    return found


class _Reader:
    """Reads continuations of a prompt that the decoder holds."""

    def __init__(self, decoder: Decoder, ids: Sequence[int]) -> None:
        self._decoder, self._prompt_tokens = decoder, len(ids)
        self._kept = max(0, len(ids) - LEAST)
        self._again = list(ids[self._kept :])
        self._wide = True  # until the decoder refuses

    def rows(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """Scores after the prompt, then after each of `tokens`. A row is only good until the next one is taken."""
        self._decoder.rewind(self._kept)
        unwanted = len(self._again) - 1
        for part in self._parts([*self._again, *tokens]):
            yield from self._read(part, len(part) - unwanted)
            unwanted = 0

    def _parts(self, ids: list[int]) -> Iterator[list[int]]:
        """As even as possible, so that none is a single token. A sequence that grows beyond `longrope_threshold` is read in
        another way from there on, as it is where it is written token by token."""
        switch = self._decoder.longrope_threshold
        cut = switch - self._kept if self._prompt_tokens <= switch else 0
        for whole in (ids[:cut], ids[cut:]):
            count = -(-len(whole) // PREFILL_CHUNK)
            for at in range(count):
                yield whole[at * len(whole) // count : (at + 1) * len(whole) // count]

    def _read(self, part: list[int], count: int) -> Iterator[Logits]:
        """Scores after each of the last `count` tokens."""
        if self._wide or count == 1:
            held = len(self._decoder.tokens)
            self._decoder.append(part)
            try:
                rows = self._decoder.wide_logits(count)
            except EngineError:
                if count == 1:
                    raise
                self._wide = False
                self._decoder.rewind(held)
            else:
                yield from rows
                return
        first = len(part) - count + 1
        for piece in (part[:first], *([token] for token in part[first:])):
            self._decoder.append(piece)
            yield self._decoder.logits()


def _logprobs(row: Logits, tokens: Sequence[int]) -> list[float]:
    """Of some tokens by the scores of all. Raises EngineError."""
    import numpy as np

    scores = row.astype(np.float64)
    highest = scores.max()
    if not np.isfinite(highest):
        raise EngineError("the model's scores are not finite numbers", hint="try another precision or provider")
    total = highest + np.log(np.exp(scores - highest).sum())
    return [float(scores[token] - total) for token in tokens]
