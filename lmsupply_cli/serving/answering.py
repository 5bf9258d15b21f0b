"""Answers in the process of a model, one step at a time: alone, or several in a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Protocol

from lmsupply_cli.events import Finished, GenerationEvent, PrefillProgress, Pulse
from lmsupply_cli.generation.batch import BatchItem, BatchRunner, RowBatch
from lmsupply_cli.generation.batch_plan import Rate
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.serving.asked import Asked, PromptMaker
from lmsupply_cli.serving.caches import Caches, Place
from lmsupply_cli.serving.frames import Accepted, Happened, Reply

_USUAL_READ_S = 0.01  # for a token of a prompt, until it is measured: of a 1B model in int4 on two cores


class Turn(Protocol):
    """Something that takes turns."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Of the requests that are not answered yet."""

    def step(self) -> Iterator[Reply]:
        """The next piece of work, and what is to be said of it. Raises what the generation raises."""

    def end(self, *, failed: bool) -> None:
        """Give everything back."""

    @property
    def over(self) -> bool:
        """Whether there is nothing more to do."""


class Meter:
    """What reading costs, without the turns of others."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.read = Rate(_USUAL_READ_S)


@dataclass(frozen=True)
class Lender:
    """What answers need of the scheduler."""

    prompts: PromptMaker
    caches: Caches
    runner: BatchRunner
    meter: Meter


class Single:
    """One answer, in a place of its own."""

    def __init__(self, asked: Asked, place: Place, lender: Lender, *, accepted: bool = False) -> None:
        """`accepted`: that was said already. Raises UsageError, DoesNotFit."""
        self.ids: tuple[int, ...] = (asked.id,)
        self.over = False
        self._place, self._lender = place, lender
        generator = place.generator
        prompt = lender.prompts.with_cache(asked.prompt, generator.cache.cached)
        self.prompt_ids = prompt.ids
        self.read_at: float | None = None  # when its prompt had been read
        self.written = 0
        self._accepted = accepted
        self._done: int | None = None  # tokens of the prompt, cached ones included
        self._prefill_s = self._decode_s = 0.0
        self._events = generator.stream_prompt(
            prompt, asked.options, guidance=asked.guidance, cancel=asked.cancel, pulses=True
        )

    def step(self) -> Iterator[Reply]:
        meter = self._lender.meter
        began = meter.clock()
        event = next(self._events)
        self._note(event, meter.clock() - began)
        if not self._accepted:  # the first event comes before the prompt is read, and after what can be refused
            self._accepted = True
            yield Accepted(self.ids[0], len(self.prompt_ids))
        if isinstance(event, Finished):
            self.over = True
            timings = replace(event.timings, prefill_s=self._prefill_s, decode_s=self._decode_s)
            self._lender.runner.record(replace(event, timings=timings))
        if not isinstance(event, Pulse):
            yield Happened(self.ids[0], (event,))

    def _note(self, event: GenerationEvent, seconds: float) -> None:
        """What this answer costs, without the turns of others."""
        meter = self._lender.meter
        if isinstance(event, PrefillProgress):
            if self._done is not None:
                meter.read.add(event.done_tokens - self._done, seconds)
            self._prefill_s += seconds
            self._done = event.done_tokens
            if event.done_tokens == event.total_tokens:
                self.read_at = meter.clock()
        else:
            self._decode_s += seconds
            self.written += 1

    def end(self, *, failed: bool) -> None:
        close = getattr(self._events, "close", None)
        if close:
            close()
        if failed:
            self._lender.caches.discard(self._place)
        else:
            self._lender.caches.give_back(self._place)


class Together:
    """Several answers in one batch."""

    def __init__(self, asked: Sequence[Asked], generator: TextGenerator, lender: Lender) -> None:
        """Raises UsageError, DoesNotFit."""
        self.asked, self.over = tuple(asked), False
        self.begun = False  # something was said of it
        self._open = set(range(len(asked)))
        self._lender = lender
        self._ended: list[Finished] = []
        self._prefill_s = self._decode_s = 0.0
        items = [BatchItem(one.prompt, one.options, one.guidance or generator.guidance) for one in asked]
        self._steps = RowBatch(generator, items, cancels=[one.cancel for one in asked]).stream()
        self._accepted = False

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self.asked[row].id for row in sorted(self._open))

    def step(self) -> Iterator[Reply]:
        if not self._accepted:  # at once, since all prompts are read in the first step
            self._accepted = True
            yield from (Accepted(one.id, len(one.prompt.ids)) for one in self.asked)
            return
        clock = self._lender.meter.clock
        began = clock()
        step = next(self._steps)
        seconds = clock() - began
        if self._prefill_s:
            self._decode_s += seconds
        else:
            self._prefill_s = seconds
        self.begun = True
        for row, events in groupby(step, key=itemgetter(0)):
            happened = tuple(event for _, event in events)
            if isinstance(end := happened[-1], Finished):
                self._open.discard(row)
                timings = replace(end.timings, prefill_s=self._prefill_s, decode_s=self._decode_s)
                self._ended.append(replace(end, timings=timings))
            yield Happened(self.asked[row].id, happened)
        if not self._open:
            self.over = True
            self._lender.runner.record_batch(self._ended)

    def end(self, *, failed: bool) -> None:
        close = getattr(self._steps, "close", None)
        if close:
            close()
