"""Speculative decoding: propose draft tokens, read them in one forward pass, keep those that would have been chosen.

The sampler chooses at every place as it does without draft tokens, with the same draws, and follows the same guidance;
a draft token only counts where the choice falls on it. So the answer is the one that plain decoding gives, token by
token, also when it is sampled, as far as the engine's scores do not depend on how many tokens are read at once. On a
CPU they do in int4 and int8, by rounding: there the answer is as likely, and need not be the same.

Draft tokens come from the text itself (prompt lookup: what followed the last time that the same few tokens stood there)
or from a smaller model of the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Protocol

from lmsupply_cli.engine.base import Decoder
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.ending import Ending
from lmsupply_cli.engine.prefill import Run, prefill
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.errors import EngineError
from lmsupply_cli.events import SpeculativeStats

NGRAM = 3  # tokens that must agree before what followed them is proposed; then fewer, down to
SHORTEST = 2
MOST_DRAFT_CONTEXT = 8192  # tokens that a draft model holds; a longer text gets no draft tokens from it
_PATIENCE = 2  # rounds without an accepted draft token before a pause
_PAUSE, _LONGEST_PAUSE = 8, 128  # tokens; doubled each time


class Drafter(Protocol):
    def propose(self, tokens: Sequence[int], count: int, cancel: CancelToken | None = None) -> list[int]:
        """At most `count` draft tokens after `tokens`, which only ever grow at their end within an answer; none once
        `cancel` is set."""


class NgramDrafter:
    """Prompt lookup over everything in the context."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # a few tokens → where what followed them last begins
        self._read = 0

    def propose(self, tokens: Sequence[int], count: int, cancel: CancelToken | None = None) -> list[int]:
        for end in range(max(1, self._read), len(tokens)):  # what ends at the last token has no follower yet
            for size in range(SHORTEST, NGRAM + 1):
                if size <= end:
                    self._after[tuple(tokens[end - size : end])] = end
        self._read = max(self._read, len(tokens))
        for size in range(NGRAM, SHORTEST - 1, -1):
            at = self._after.get(tuple(tokens[-size:])) if size <= len(tokens) else None
            if at is not None:
                found = list(tokens[at : at + count])
                while len(found) < count:  # the text repeats itself: so may what is proposed
                    found += found[: count - len(found)]
                return found
        return []


class ModelDrafter:
    """The likeliest tokens by a smaller model. Its decoder follows the tokens by their common prefix."""

    def __init__(self, decoder: Decoder, *, vocabulary: int) -> None:
        self._decoder, self._vocabulary = decoder, vocabulary

    def propose(self, tokens: Sequence[int], count: int, cancel: CancelToken | None = None) -> list[int]:
        cancel = cancel or CancelToken()
        count = min(count, self._decoder.capacity_tokens - len(tokens))
        if count < 1:
            return []
        for _ in prefill(self._decoder, tokens, run=Run(), cancel=cancel):
            pass
        found: list[int] = []
        while not cancel.cancelled:
            found.append(int(self._decoder.logits()[: self._vocabulary].argmax()))
            if len(found) == count:
                return found
            self._decoder.append(found[-1:])
        return []


class DraftLength:
    """How many draft tokens to propose: fewer after rejected ones, none for a while after rounds in which all were."""

    def __init__(self, most: int) -> None:
        self.most = self.now = most
        self._useless = 0
        self._pause = _PAUSE
        self._waiting = 0

    def next(self) -> int:
        if self._waiting:
            self._waiting -= 1
            return 0
        return self.now

    def learn(self, proposed: int, accepted: int) -> None:
        if accepted == proposed:
            self.now = min(self.most, self.now + 1)
        elif accepted < proposed / 2:
            self.now = max(1, self.now - 1)
        if accepted:
            self._useless, self._pause = 0, _PAUSE
            return
        self._useless += 1
        if self._useless >= _PATIENCE:
            self._useless, self._waiting = 0, self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def stream_speculative(
    decoder: Decoder,
    sampler: Sampler,
    *,
    drafter: Drafter,
    draft_tokens: int,
    stats: SpeculativeStats,
    ending: Ending,
    run: Run,
) -> Iterator[int]:
    """As `stream_tokens`; `stats` is filled."""
    ends, length = frozenset(ending.eos_ids), DraftLength(draft_tokens)
    tokens = list(decoder.tokens)
    rows, drafts = decoder.wide_logits(1), list[int]()
    verified = len(tokens)  # how many of the decoder's tokens the sampler has chosen
    try:
        while True:
            for at in range(len(rows)):
                if ending.is_cancelled(run):
                    return
                token = sampler.choose(rows[at])
                if token in ends:
                    return
                right = at < len(drafts) and token == drafts[at]
                verified += right
                stats.accepted += right
                run.ids.append(token)
                tokens.append(token)
                sampler.accept(token)
                yield token
                if ending.is_full(run):
                    return
                if not right:
                    break
            if drafts:
                length.learn(len(drafts), at)
                _rewind(decoder, verified)
            count = min(length.next(), _room(decoder, tokens, ending.max_tokens - run.completion_tokens))
            drafts = drafter.propose(tokens, count, ending.cancel) if count > 0 else []
            decoder.append([tokens[-1], *drafts])
            verified += 1
            rows = decoder.wide_logits(1 + len(drafts))
            stats.rounds += bool(drafts)
            stats.proposed += len(drafts)
    finally:
        with suppress(EngineError):  # closed under an answer that is given up
            _rewind(decoder, verified)


def _rewind(decoder: Decoder, verified: int) -> None:
    """Drop rejected draft tokens."""
    if verified < len(decoder.tokens):
        decoder.rewind(verified)


def _room(decoder: Decoder, tokens: Sequence[int], left: int) -> int:
    """How many draft tokens may follow `tokens` where `left` more tokens are allowed: the last one comes from the
    sampler, and none may cross the long-RoPE threshold, where the cache becomes invalid."""
    room = min(left, decoder.capacity_tokens - len(tokens)) - 1
    below = decoder.longrope_threshold - len(tokens)
    return min(room, below) if below >= 0 else room
