"""Who is answered when, in the process of a model.

Answers take turns, one step each: a chunk of a prompt, or a token. Requests that wait at the same time are answered
together, in one batch, where that is faster; a batch takes turns like one answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import perf_counter
from traceback import print_exc

from lmsupply_cli.engine.base import PREFILL_CHUNK
from lmsupply_cli.engine.prefill import plan_reuse
from lmsupply_cli.errors import EngineError, LmsupplyError
from lmsupply_cli.events import Finished
from lmsupply_cli.generation.batch import BATCH_SIZE, BatchItem, BatchRunner, batch_bytes
from lmsupply_cli.generation.batch_plan import NOTABLE_TOKENS
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.serving.answering import Lender, Meter, Single, Together, Turn
from lmsupply_cli.serving.asked import Asked, PolledCancel, PromptMaker
from lmsupply_cli.serving.caches import Caches
from lmsupply_cli.serving.frames import (
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
from lmsupply_cli.serving.places import BusyPlace, worth_waiting

READ_AT_ONCE = 2048  # tokens of the prompts of a batch, which the engine reads in one piece
# for which such a piece may hold up answers that are being written; cancels and others
_PAUSE_S, _IDLE_PAUSE_S = 0.5, 5.0


class Unusable(Exception):
    """The engine does not work any more."""


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
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`default_thinking`: as the model was loaded; `clock`: seconds."""
        self._generator, self._slots, self._inbox, self._send = generator, max(1, limits.slots), inbox, send
        self._prompts = PromptMaker(generator, default_thinking=default_thinking)
        self._caches = Caches(generator, self._prompts, limits.cache_bytes)
        self._runner = BatchRunner(generator)
        self._lender = Lender(self._prompts, self._caches, self._runner, Meter(clock))
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
                self._refuse(one.id, EngineError("the model is being unloaded", hint="send the request again"))
            self._waiting = []
        while len(self._turns) < self._slots:
            ready = [one for one in self._waiting if not self._should_wait(one)]
            if not ready:
                return
            group = self._next_group(ready)
            self._waiting = [one for one in self._waiting if one not in group]
            self._begin_one(group[0]) if len(group) == 1 else self._begin_batch(group)

    def _gave_up(self, one: Asked) -> bool:
        if one.cancel.cancelled:
            del self._cancels[one.id]
            return True
        return False

    def _should_wait(self, one: Asked) -> bool:
        """Whether an answer that is being written has read most of its prompt, and will leave it behind."""
        meter = self._lender.meter
        now = meter.clock()
        busy = [
            BusyPlace(
                held=len(turn.prompt_ids) + turn.written,
                shared=self._common(one, turn),
                since=None if turn.read_at is None else now - turn.read_at,
            )
            for turn in self._turns
            if isinstance(turn, Single)
        ]
        if all(place.shared <= PREFILL_CHUNK for place in busy):
            return False
        return worth_waiting(busy, cached=self._caches.cached_tokens(one), read_s=meter.read.cost)

    def _common(self, one: Asked, turn: Single) -> int:
        id = turn.ids[0]
        if id not in one.common:
            one.common[id] = plan_reuse(turn.prompt_ids, one.prompt.ids).rewind_to
        return one.common[id]

    def _next_group(self, ready: Sequence[Asked]) -> list[Asked]:
        """Those of the waiting ones that are answered together next; one that is answered alone."""
        first = ready[0]
        together = [one for one in ready if self._can_share(one)]
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
            or self._caches.cached_tokens(one) > NOTABLE_TOKENS
        )

    def _readable_tokens(self) -> int:
        """Of a batch: in one piece, which holds up the answers that are being written."""
        seconds, least = (_PAUSE_S, PREFILL_CHUNK) if self._turns else (_IDLE_PAUSE_S, 4 * PREFILL_CHUNK)
        return max(least, min(READ_AT_ONCE, int(seconds / self._lender.meter.read.cost)))

    def _begin_one(self, asked: Asked, *, accepted: bool = False) -> None:
        place = None
        try:
            place = self._caches.lend(asked)
            self._turns.appendleft(Single(asked, place, self._lender, accepted=accepted))
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
            self._turns.appendleft(Together(group, self._generator, self._lender))
        except Exception:  # one of them, or all at once: alone, each says what is wrong with it
            for one in group:
                self._begin_one(one)

    def _take_turn(self) -> None:
        turn = self._turns.popleft()
        try:
            said = list(turn.step())
        except Exception as error:
            self._fail(turn, error)
            return
        self._say(said)
        if turn.over:
            turn.end(failed=False)
        else:
            self._turns.append(turn)

    def _fail(self, turn: Turn, error: Exception) -> None:
        """An answer that fails takes no other along, as long as the engine works."""
        broken = not isinstance(error, LmsupplyError) or isinstance(error, EngineError)
        again = turn.asked if isinstance(turn, Together) and not turn.begun else ()  # each may go well alone
        for id in turn.ids if not again else ():
            self._refuse(id, error)
        turn.end(failed=broken)
        if broken:
            self._check_engine()
        for one in again:
            self._begin_one(one, accepted=True)

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
        self._say([Failed(id, error)])

    def _say(self, frames: Sequence[Reply]) -> None:
        """What is over needs no cancel any more."""
        for frame in frames:
            if isinstance(frame, Failed) or (isinstance(frame, Happened) and isinstance(frame.events[-1], Finished)):
                self._cancels.pop(frame.id or 0, None)
        if frames:
            self._send(frames)
