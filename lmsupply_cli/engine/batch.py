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
from lmsupply_cli.engine.generate import AnswerText, Task, reached_limit, token_logprob
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.events import FinishReason, Limit, TokenLogprob

if TYPE_CHECKING:
    from lmsupply_cli.engine.base import Logits


@dataclass
class Row:
    """One prompt; the rest is filled while the batch runs."""

    task: Task
    text: str = ""
    completion_tokens: int = 0
    finish_reason: FinishReason | None = None
    complete: bool | None = None  # as in Finished
    cut_by: Limit | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)


class _Writer:
    """Makes the text of a row from the scores of its next token."""

    def __init__(self, model: TextModel, row: Row, room: int) -> None:
        self._model, self._row, self._room = model, row, room
        task = row.task
        self._ends = model.shape.eos_ids | task.stop_ids
        self._limit = min(task.options.max_tokens, room)
        self._sampler = Sampler(
            task.options, vocabulary=model.shape.vocabulary, eos_ids=self._ends, matcher=task.matcher
        )
        self._sampler.read(task.ids)
        self._text = AnswerText(model, task)

    def choose(self, scores: Logits) -> int | None:
        """The token to go on with; None where the row has ended."""
        row = self._row
        if row.finish_reason:
            return None
        token = self._sampler.choose(scores)
        if token in self._ends:
            self.finish("stop")
            return None
        row.completion_tokens += 1
        self._sampler.accept(token)
        if self._sampler.logprobs:
            row.logprobs.append(token_logprob(self._model, self._sampler))
        row.text += self._text.push(token)
        if self._text.stopped:
            self.finish("stop")
            return None
        if row.completion_tokens >= self._limit:
            self.finish("length")
            return None
        return token

    def finish(self, reason: FinishReason) -> None:
        self._row.text += self._text.flush()
        self._row.finish_reason = "stop" if self._text.stopped else reason
        self._row.complete = self._text.complete
        self._row.cut_by = reached_limit(self._row.finish_reason, self._row.task.options.max_tokens, self._room)


def stream_batch(
    model: TextModel, rows: Sequence[Row], *, capacity_tokens: int, cancel: CancelToken | None = None
) -> Iterator[int]:
    """Fill `rows`; after each step the number of tokens that were written so far. `capacity_tokens`: of one row."""
    cancel = cancel or CancelToken()
    shares = (row.task.options.past_present_share_buffer for row in rows)  # there is one buffer for all
    decoder: BatchDecoder = model.new_batch(
        [row.task.ids for row in rows],
        capacity_tokens=capacity_tokens,
        share_buffer=next((share for share in shares if share is not None), None),
    )
    try:
        room = capacity_tokens - max(len(row.task.ids) for row in rows)  # padding takes room as well
        writers = [_Writer(model, row, room) for row in rows]
        while True:
            scores = decoder.logits()
            if cancel.cancelled:
                for row, writer in zip(rows, writers, strict=True):
                    if row.finish_reason is None:
                        writer.finish("cancelled")
                return
            tokens = list(map(_Writer.choose, writers, scores))
            yield sum(row.completion_tokens for row in rows)
            if all(row.finish_reason for row in rows):
                return
            decoder.choose(tokens)
    finally:
        decoder.close()
