"""Several prompts at once on one model: each step computes the next token of every row.

A static batch: all rows begin together, and a row that has ended waits for the others. The sampler, the stops and
the detokenizer of a row are its own, so that a row says what it would say alone (up to the engine's rounding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmsupply_cli.engine.base import BatchDecoder, TextModel
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.detokenizer import Detokenizer
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.engine.stops import StopSequenceDetector
from lmsupply_cli.events import FinishReason

if TYPE_CHECKING:
    from lmsupply_cli.engine.base import Logits


@dataclass
class Row:
    """One prompt; `text`, `completion_tokens` and `finish_reason` are filled while the batch runs."""

    ids: Sequence[int]
    options: GenerationOptions
    stop: Sequence[str] = ()
    stop_ids: frozenset[int] = frozenset()
    text: str = ""
    completion_tokens: int = 0
    finish_reason: FinishReason | None = field(default=None)


class _Writer:
    """Makes the text of a row from the scores of its next token."""

    def __init__(self, model: TextModel, row: Row, room: int) -> None:
        self._row = row
        self._ends = model.shape.eos_ids | row.stop_ids
        self._limit = min(row.options.max_tokens, room)
        self._sampler = Sampler(row.options, vocabulary=model.shape.vocabulary, eos_ids=self._ends)
        self._sampler.observe(row.ids)
        self._matcher = StopSequenceDetector([*row.options.stop, *row.stop])
        self._detokenizer = Detokenizer(model.decode, model.hidden_ids)

    def choose(self, scores: Logits) -> int | None:
        """The token to go on with; None where the row has ended."""
        if self._row.finish_reason:
            return None
        return self.take(self._sampler.choose(scores, completed=self._row.completion_tokens))

    def wishes(self, scores: Logits) -> Logits | None:
        """What a guidance chooses by; None where the row has ended."""
        if self._row.finish_reason:
            return None
        return self._sampler.noisy(scores, completed=self._row.completion_tokens)

    def take(self, token: int | None) -> int | None:
        """`token` (None for the end) is the next one of a row that has not ended. The token to go on with, if any."""
        row = self._row
        if row.finish_reason:
            return None
        if token is None or token in self._ends:
            self.finish("stop")
            return None
        row.completion_tokens += 1
        self._sampler.observe((token,))
        row.text += self._matcher.push(self._detokenizer.push(token))
        if self._matcher.matched is not None:
            self.finish("stop")
            return None
        if row.completion_tokens >= self._limit:
            self.finish("length")
            return None
        return token

    def finish(self, reason: FinishReason) -> None:
        rest = self._matcher.push(self._detokenizer.flush())
        if self._matcher.matched is None:
            rest += self._matcher.flush()
        self._row.text += rest
        self._row.finish_reason = "stop" if self._matcher.matched is not None else reason


def stream_batch(
    model: TextModel,
    rows: Sequence[Row],
    *,
    capacity_tokens: int,
    guidance: Guidance | None = None,
    cancel: CancelToken | None = None,
) -> Iterator[int]:
    """Fill `rows`; after each step the number of tokens that were written so far. `capacity_tokens`: of one row.
    `guidance`: what every row follows."""
    cancel = cancel or CancelToken()
    shares = (row.options.past_present_share_buffer for row in rows)  # there is one buffer for all
    decoder: BatchDecoder = model.new_batch(
        [row.ids for row in rows],
        capacity_tokens=capacity_tokens,
        share_buffer=next((share for share in shares if share is not None), None),
        guidance=guidance,
    )
    room = capacity_tokens - max(len(row.ids) for row in rows)  # padding takes room as well
    writers = [_Writer(model, row, room) for row in rows]
    try:
        while True:
            scores = decoder.logits()
            if cancel.cancelled:
                for row, writer in zip(rows, writers, strict=True):
                    if row.finish_reason is None:
                        writer.finish("cancelled")
                return
            if guidance:
                for writer, token in zip(
                    writers, decoder.step(list(map(_Writer.wishes, writers, scores))), strict=True
                ):
                    writer.take(token)
            else:
                tokens = list(map(_Writer.choose, writers, scores))
            yield sum(row.completion_tokens for row in rows)
            if all(row.finish_reason for row in rows):
                return
            if not guidance:
                decoder.choose(tokens)
    finally:
        decoder.close()
