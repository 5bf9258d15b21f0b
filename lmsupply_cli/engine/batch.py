"""Several prompts at once on one model: each step computes the next token of every row.

A static batch: all rows begin together, and a row that has ended waits for the others. The sampler, the stops and
the detokenizer of a row are its own, so that a row says what it would say alone (up to the engine's rounding).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmsupply_cli.engine.base import BatchDecoder, TextModel
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.generate import AnswerText, Task, reached_limit, token_logprob
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.events import Finished, FinishReason, GenerationEvent, TextDelta, Timings, Usage

if TYPE_CHECKING:
    from lmsupply_cli.engine.base import Logits


@dataclass
class Row:
    """One prompt; `cancel` ends its answer alone. The rest is filled while the batch runs."""

    task: Task
    cancel: CancelToken = field(default_factory=CancelToken)
    completion_tokens: int = 0
    finished: bool = False


@dataclass
class _Clock:
    """When the batch began, and when its rows had their first tokens."""

    began: float = field(default_factory=time.monotonic)
    first: float = 0.0

    def timings(self) -> Timings:
        """Of an answer that ends now."""
        read = (self.first or time.monotonic()) - self.began
        return Timings(ttft_s=read, prefill_s=read, decode_s=time.monotonic() - self.began - read)


class _Writer:
    """Makes the events of a row from the scores of its next token."""

    def __init__(self, model: TextModel, row: Row, room: int, clock: _Clock) -> None:
        self._model, self._row, self._room, self._clock = model, row, room, clock
        task = row.task
        self._ends = model.shape.eos_ids | task.stop_ids
        self._limit = min(task.options.max_tokens, room)
        self._sampler = Sampler(
            task.options, vocabulary=model.shape.vocabulary, eos_ids=self._ends, matcher=task.matcher
        )
        self._sampler.read(task.ids)
        self._text = AnswerText(model, task)
        self.token: int | None = None  # to go on with; None where the row has ended

    def choose(self, scores: Logits) -> Iterator[GenerationEvent]:
        """Choose the next token."""
        self.token, row = None, self._row
        if row.finished:
            return
        token = self._sampler.choose(scores)
        if token in self._ends:
            yield from self.finish("stop")
            return
        row.completion_tokens += 1
        self._sampler.accept(token)
        if self._sampler.logprobs:
            yield token_logprob(self._model, self._sampler)
        if text := self._text.push(token):
            yield TextDelta(text)
        if self._text.stopped:
            yield from self.finish("stop")
        elif row.completion_tokens >= self._limit:
            yield from self.finish("length")
        else:
            self.token = token

    def finish(self, reason: FinishReason) -> Iterator[GenerationEvent]:
        """End the row, if it has not ended."""
        if self._row.finished:
            return
        if rest := self._text.flush():
            yield TextDelta(rest)
        self._row.finished = True
        reason = "stop" if self._text.stopped else reason
        yield Finished(
            reason,
            Usage(len(self._row.task.ids), 0, self._row.completion_tokens),
            self._clock.timings(),
            complete=self._text.complete,
            cut_by=reached_limit(reason, self._row.task.options.max_tokens, self._room),
            stop_sequence=self._text.stop_sequence,
        )


RowEvents = list[tuple[int, GenerationEvent]]


def stream_batch(
    model: TextModel, rows: Sequence[Row], *, capacity_tokens: int, cancel: CancelToken | None = None
) -> Iterator[RowEvents]:
    """The events of each step by the number of their row; the last one of a row is `Finished`. `capacity_tokens`: of one
    row; `cancel` ends all."""
    cancel, clock = cancel or CancelToken(), _Clock()
    shares = (row.task.options.past_present_share_buffer for row in rows)  # there is one buffer for all
    decoder: BatchDecoder = model.new_batch(
        [row.task.ids for row in rows],
        capacity_tokens=capacity_tokens,
        share_buffer=next((share for share in shares if share is not None), None),
    )
    try:
        room = capacity_tokens - max(len(row.task.ids) for row in rows)  # padding takes room as well
        writers = [_Writer(model, row, room, clock) for row in rows]
        while True:
            scores = decoder.logits()
            step: RowEvents = []
            for number, (row, writer) in enumerate(zip(rows, writers, strict=True)):
                ended = cancel.cancelled or row.cancel.cancelled
                events = writer.finish("cancelled") if ended else writer.choose(scores[number])
                step += ((number, event) for event in events)
            clock.first = clock.first or time.monotonic()
            yield step
            if all(row.finished for row in rows):
                return
            decoder.choose([writer.token for writer in writers])
    finally:
        decoder.close()
