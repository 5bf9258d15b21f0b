"""Who is answered when, in the process of a model.

Answers take turns, one step each: a chunk of a prompt, or a token. Requests that wait at the same time are answered
together, in one batch, where that is faster; a batch takes turns like one answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from queue import Empty, SimpleQueue
from time import perf_counter
from traceback import print_exc
from typing import Protocol

from lmsupply_cli.engine.base import PREFILL_CHUNK
from lmsupply_cli.errors import EngineError, LmsupplyError
from lmsupply_cli.events import Finished, GenerationEvent, PrefillProgress, Pulse
from lmsupply_cli.generation.batch import BATCH_SIZE, BatchItem, BatchRunner, RowBatch, batch_bytes
from lmsupply_cli.generation.batch_plan import NOTABLE_TOKENS
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.serving.asked import Asked, PolledCancel, PromptMaker
from lmsupply_cli.serving.caches import Caches, Place
from lmsupply_cli.serving.frames import (
    Accepted,
    Ask,
    Cancel,
    Close,
    Count,
    Counted,
    Failed,
    Happened,
    Reply,
    Request,
    WorkerLimits,
)

READ_AT_ONCE = 2048  # tokens of the prompts of a batch, which the engine reads in one piece
_PAUSE_S = 0.5  # for which such a piece may hold up answers that are being written


class Unusable(Exception):
    """The engine does not work any more."""


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


class Single:
    """One answer, in a place of its own."""

    def __init__(self, asked: Asked, place: Place, caches: Caches, prompts: PromptMaker, runner: BatchRunner) -> None:
        """Raises UsageError, DoesNotFit."""
        self.ids: tuple[int, ...] = (asked.id,)
        self.over = False
        self._place, self._caches, self._runner = place, caches, runner
        generator = place.generator
        prompt = prompts.with_cache(asked.prompt, generator.cache.cached)
        self._prompt_tokens = len(prompt.ids)
        self._accepted = False
        self._prefill_s = self._decode_s = 0.0
        self._reads = True
        self._events = generator.stream_prompt(
            prompt, asked.options, guidance=asked.guidance, cancel=asked.cancel, pulses=True
        )

    def step(self) -> Iterator[Reply]:
        began = perf_counter()
        event = next(self._events)
        self._note(event, perf_counter() - began)
        if not self._accepted:  # the first event comes before the prompt is read, and after what can be refused
            self._accepted = True
            yield Accepted(self.ids[0], self._prompt_tokens)
        if isinstance(event, Finished):
            self.over = True
            timings = replace(event.timings, prefill_s=self._prefill_s, decode_s=self._decode_s)
            self._runner.record(replace(event, timings=timings))
        if not isinstance(event, Pulse):
            yield Happened(self.ids[0], (event,))

    def _note(self, event: GenerationEvent, seconds: float) -> None:
        """What this answer costs, without the turns of others."""
        self._reads = self._reads and isinstance(event, PrefillProgress)
        if self._reads:
            self._prefill_s += seconds
        else:
            self._decode_s += seconds

    def end(self, *, failed: bool) -> None:
        close = getattr(self._events, "close", None)
        if close:
            close()
        if failed:
            self._caches.discard(self._place)
        else:
            self._caches.give_back(self._place)


class Together:
    """Several answers in one batch."""

    def __init__(self, asked: Sequence[Asked], generator: TextGenerator, runner: BatchRunner) -> None:
        """Raises UsageError, DoesNotFit."""
        self._all, self.over = tuple(asked), False
        self._open = set(range(len(asked)))
        self._runner = runner
        self._ended: list[Finished] = []
        self._prefill_s = self._decode_s = 0.0
        items = [BatchItem(one.prompt, one.options, one.guidance or generator.guidance) for one in asked]
        self._steps = RowBatch(generator, items, cancels=[one.cancel for one in asked]).stream()
        self._accepted = False

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(self._all[row].id for row in sorted(self._open))

    def step(self) -> Iterator[Reply]:
        if not self._accepted:  # at once, since all prompts are read in the first step
            self._accepted = True
            yield from (Accepted(one.id, len(one.prompt.ids)) for one in self._all)
            return
        began = perf_counter()
        step = next(self._steps)
        seconds = perf_counter() - began
        if self._prefill_s:
            self._decode_s += seconds
        else:
            self._prefill_s = seconds
        for row, events in groupby(step, key=itemgetter(0)):
            happened = tuple(event for _, event in events)
            if isinstance(end := happened[-1], Finished):
                self._open.discard(row)
                timings = replace(end.timings, prefill_s=self._prefill_s, decode_s=self._decode_s)
                self._ended.append(replace(end, timings=timings))
            yield Happened(self._all[row].id, happened)
        if not self._open:
            self.over = True
            self._runner.record_batch(self._ended)

    def end(self, *, failed: bool) -> None:
        close = getattr(self._steps, "close", None)
        if close:
            close()


class Scheduler:
    """Takes frames from `inbox`, and says what happens by `send`."""

    def __init__(
        self,
        generator: TextGenerator,
        limits: WorkerLimits,
        inbox: SimpleQueue[Request],
        send: Callable[[Sequence[Reply]], None],
        *,
        default_thinking: bool = True,
    ) -> None:
        self._generator, self._slots, self._inbox, self._send = generator, max(1, limits.slots), inbox, send
        self._prompts = PromptMaker(generator, default_thinking=default_thinking)
        self._caches = Caches(generator, self._prompts, limits.cache_bytes)
        self._runner = BatchRunner(generator)
        self._arrived: deque[Ask | Count] = deque()
        self._waiting: list[Asked] = []
        self._turns: deque[Turn] = deque()
        self._cancels: dict[int, PolledCancel] = {}
        self._closing = False

    def run(self) -> None:
        """Until it is closed and every running answer has ended. Raises Unusable."""
        while not (self._closing and not self._turns):
            self._look(wait=not (self._turns or self._waiting or self._arrived))
            self._make_prompts()
            self._begin()
            if self._turns:
                self._take_turn()
        self._caches.close()

    def _look(self, *, wait: bool = False) -> None:
        """Take what has arrived; it is called within steps, too, so it only notes it down."""
        try:
            while True:
                self._take(self._inbox.get(block=wait))
                wait = False
        except Empty:
            pass

    def _take(self, frame: Request) -> None:
        if isinstance(frame, Ask | Count):
            self._arrived.append(frame)
            if isinstance(frame, Ask):
                self._cancels[frame.id] = PolledCancel(self._look)
        elif isinstance(frame, Cancel):
            if cancel := self._cancels.get(frame.id):
                cancel.cancel()
        elif isinstance(frame, Close):
            self._closing = True

    def _make_prompts(self) -> None:
        while self._arrived:
            frame = self._arrived.popleft()
            try:
                if isinstance(frame, Count):
                    self._send([Counted(frame.id, len(self._prompts.prompt(frame.request).ids))])
                else:
                    cancel = self._cancels[frame.id]
                    self._waiting.append(self._prompts.make(frame.id, frame.request, cancel))
            except Exception as error:
                self._refuse(frame.id, error)
            self._look()

    def _begin(self) -> None:
        """Begin what may begin now."""
        self._waiting = [one for one in self._waiting if not self._gave_up(one)]
        if self._closing:
            for one in self._waiting:
                self._refuse(one.id, EngineError("the model is being unloaded", hint="ask again"))
            self._waiting = []
        while self._waiting and len(self._turns) < self._slots:
            group = self._next_group()
            self._waiting = [one for one in self._waiting if one not in group]
            self._begin_one(group[0]) if len(group) == 1 else self._begin_batch(group)

    def _gave_up(self, one: Asked) -> bool:
        if one.cancel.cancelled:
            del self._cancels[one.id]
            return True
        return False

    def _next_group(self) -> list[Asked]:
        """Those of the waiting ones that are answered together next; one that is answered alone."""
        first = self._waiting[0]
        together = [one for one in self._waiting if self._can_share(one)]
        if first not in together or len(together) < 2:
            return [first]
        together = together[:BATCH_SIZE]
        most = self._readable_tokens()
        while len(together) > 1 and len(together) * max(len(one.prompt.ids) for one in together) > most:
            together.pop()
        if len(together) < 2:
            return [first]
        plan = self._runner.choose([BatchItem(one.prompt, one.options, one.guidance) for one in together])
        return together[: plan.count] if plan.together else [first]

    def _can_share(self, one: Asked) -> bool:
        """Whether it may be a row of a batch."""
        generator = self._generator
        return not (
            one.prompt.tools is not None
            or one.options.num_beams > 1
            or one.options.past_present_share_buffer is not None
            or generator.speculation is not None
            or one.prompt.ids[-1] == generator.model.shape.pad_id
            or self._caches.cached_tokens(one.prompt) > NOTABLE_TOKENS
        )

    def _readable_tokens(self) -> int:
        """Of a batch: in one piece, which holds up the answers that are being written."""
        if not self._turns:
            return READ_AT_ONCE
        cost = self._runner.read_cost
        return max(PREFILL_CHUNK, min(READ_AT_ONCE, int(_PAUSE_S / cost) if cost else 0))

    def _begin_one(self, asked: Asked) -> None:
        place = None
        try:
            place = self._caches.lend(asked)
            self._turns.appendleft(Single(asked, place, self._caches, self._prompts, self._runner))
        except Exception as error:
            if place is not None:
                self._caches.give_back(place)
            self._refuse(asked.id, error)

    def _begin_batch(self, group: Sequence[Asked]) -> None:
        shape = self._generator.memory_shape
        if shape is not None:
            longest = max(len(one.prompt.ids) for one in group)
            most = max(one.options.max_tokens for one in group)
            self._caches.make_room(batch_bytes(shape, len(group), longest, longest + most))
        try:
            self._turns.appendleft(Together(group, self._generator, self._runner))
        except Exception:  # one of them, or all at once: alone, each says what is wrong with it
            for one in group:
                self._begin_one(one)

    def _take_turn(self) -> None:
        turn = self._turns.popleft()
        try:
            if said := list(turn.step()):
                self._send(said)
        except Exception as error:
            self._fail(turn, error)
            return
        if turn.over:
            self._over(turn.ids)
            turn.end(failed=False)
        else:
            self._turns.append(turn)

    def _fail(self, turn: Turn, error: Exception) -> None:
        """An answer that fails takes no other along, as long as the engine works."""
        broken = not isinstance(error, LmsupplyError) or isinstance(error, EngineError)
        for id in turn.ids:
            self._refuse(id, error)
        turn.end(failed=broken)
        if broken:
            self._check_engine()

    def _check_engine(self) -> None:
        probe = self._generator.sibling()
        try:
            probe.warm_up()
        except Exception as error:
            raise Unusable(str(error)) from error
        finally:
            probe.close()

    def _refuse(self, id: int, error: Exception) -> None:
        if not isinstance(error, LmsupplyError):
            if not isinstance(error, MemoryError):
                print_exc()
            name = "memory ran out" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
            error = EngineError(f"the answer failed: {name}")
        self._over((id,))
        self._send([Failed(id, error)])

    def _over(self, ids: Sequence[int]) -> None:
        for id in ids:
            self._cancels.pop(id, None)
