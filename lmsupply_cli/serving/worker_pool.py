"""Models by name, each in a process of its own: loaded by its first request, unloaded when idle.

Everything happens in one event loop, so there are no locks: between two awaits nothing else runs. What has to go for a new
model is decided in `room`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from lmsupply_cli.errors import EngineError, LmsupplyError, QueueFull, QueueTimeout, WorkerDied
from lmsupply_cli.events import Finished
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.loading.plan import check_accepted
from lmsupply_cli.serving.crash_guard import CrashGuard
from lmsupply_cli.serving.needs import model_bytes
from lmsupply_cli.serving.pool_options import WorkerPoolHooks, WorkerPoolOptions
from lmsupply_cli.serving.pool_stats import Tally, WorkerPoolStats
from lmsupply_cli.serving.pool_worker import Bell, PooledAnswer, PoolWorker, Process
from lmsupply_cli.serving.requests import AnswerRequest, LoadedWorker, ServedModel, WarmModel
from lmsupply_cli.serving.room import Busy, Eviction, Occupant, Refusal, Room, make_room, overdrawn
from lmsupply_cli.serving.served_models import FoundModel, ServedModels
from lmsupply_cli.units import LEAST_MEMORY_BYTES

CONTEXT_TOKENS = 4096  # that the need of a model is estimated for, if no context is asked for
PATIENCE_S = 10.0  # after which no new request goes to the models whose room is waited for
_LAST_S = 5.0  # for a process whose answers were cancelled to end by itself
_TRY_LATER = "try again later"
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Turn:
    """A request that waits. `number`: in the order of asking; `blocked_by`: models whose room it waits for."""

    number: int
    since: float
    ends: float
    blocked_by: tuple[str, ...] = ()

    def is_before(self, other: _Turn | None, now: float) -> bool:
        """Whether it has waited so long for room that `other`, or whoever comes now, waits for it."""
        is_first = other is None or self.number < other.number
        return bool(self.blocked_by) and is_first and now >= self.since + PATIENCE_S


class WorkerPool:
    """The `Models` of a server. Use it in `async with`: pinned models are loaded at the start, and all are unloaded at the
    end."""

    def __init__(self, options: WorkerPoolOptions | None = None, *, hooks: WorkerPoolHooks | None = None) -> None:
        self._options, hooks = options or WorkerPoolOptions(), hooks or WorkerPoolHooks()
        self._start_process = hooks.start or self._start_real
        self._needed_hook, self._provider_hook = hooks.needed_bytes, hooks.provider
        self._providers: dict[str, str] = {}
        self._probe = hooks.probe_memory or (lambda: detect_memory().available_bytes)
        self._models = hooks.models or ServedModels(self._options.load.cache_dir)
        self._limits = self._options.limits
        self._workers: dict[str, PoolWorker] = {}
        self._needs: dict[str, int] = {}
        self._pinned: set[str] = set()
        self._loading: dict[str, CrashGuard] = {}
        self._restarts: dict[str, CrashGuard] = {}
        self._turns: list[_Turn] = []
        self._numbers = itertools.count()
        self._queued: Counter[str] = Counter()
        self._bell, self._closing = Bell(), asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tally, self._refused = Tally(), 0
        self._grace_s = 30.0

    async def start(self) -> None:
        """Load the pinned models. Raises what loading raises."""
        await asyncio.to_thread(self._models.all)  # they are read once, and not while somebody waits
        pinned = [self._find(name) for name in self._options.pinned]
        self._pinned.update(found.key for found in pinned)
        for found in pinned:
            self._give_back(await self._acquire(found))

    async def __aenter__(self) -> WorkerPool:
        try:
            await self.start()
        except BaseException:
            await self.close(grace_s=0)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # what there is

    def installed(self) -> Sequence[ServedModel]:
        """See `Models`."""
        return [self._row(found) for found in self._models.all()]

    def loaded(self) -> Sequence[LoadedWorker]:
        """See `Models`."""
        rows = (worker.row(self._now()) for worker in self._workers.values())
        return [row for row in rows if row]

    def find(self, model: str) -> ServedModel:
        """See `Models`."""
        return self._row(self._find(model))

    def warm(self, model: str) -> WarmModel | None:
        """See `Models`. Its memory limit is that of all models."""
        worker = self._workers.get(self._find(model).key)
        process = worker.process if worker and not worker.leaving else None
        if worker is None or process is None:
            return None
        load = replace(self._load_of(worker.found), memory_limit=self._options.memory_limit)
        return WarmModel(process.info, process.context_tokens, load, process.notices)

    @property
    def stats(self) -> WorkerPoolStats:
        """Counts since the pool was made."""
        return WorkerPoolStats(self._tally.models(), len(self._turns), self._refused)

    def _find(self, model: str) -> FoundModel:
        return self._models.find(model, self._available_bytes)

    def _row(self, found: FoundModel) -> ServedModel:
        worker = self._workers.get(found.key)
        if worker and worker.process:
            return replace(found.row, loaded=True, context_length=worker.process.context_tokens)
        most = self._options.load.context or found.row.context_length
        return replace(found.row, context_length=min(most, found.row.context_length))

    def _available_bytes(self) -> int:
        """For one model, if all others were unloaded."""
        free = self._probe() + sum(worker.bytes for worker in self._workers.values() if not worker.is_loading)
        return free if self._limits.bytes is None else min(free, self._limits.bytes)

    # what is asked

    async def answer(self, model: str, request: AnswerRequest, *, keep_alive_s: float | None = None) -> PooledAnswer:
        """See `Models`. A `keep_alive_s` holds until another request brings one."""
        found = self._find(model)
        worker, answer = await self._ask(found, lambda process: process.answer(request), keep_alive_s)

        def ended(how: Finished | LmsupplyError | None) -> None:
            worker.answers.discard(answer)
            if isinstance(how, Finished):
                self._tally.finished(worker.ref, how)
            else:
                self._tally.answered(worker.ref, "error" if how else "cancelled")
            self._give_back(worker)

        worker.answers.add(answer)
        return PooledAnswer(answer, ended)

    async def count_tokens(self, model: str, request: AnswerRequest) -> int:
        """See `Models`."""
        worker, tokens = await self._ask(self._find(model), lambda process: process.count_tokens(request))
        self._give_back(worker)
        return tokens

    async def _ask(
        self, found: FoundModel, ask: Callable[[Process], Awaitable[T]], keep_alive_s: float | None = None
    ) -> tuple[PoolWorker, T]:
        """A worker with one user more, and what its process said. A process that ends before it said anything is asked again,
        as a new one, once."""
        died = False
        while True:
            worker = await self._acquire(found, keep_alive_s)
            try:
                return worker, await ask(await worker.until_loaded())
            except BaseException as error:
                self._refused += isinstance(error, (QueueFull, QueueTimeout))
                self._give_back(worker)
                has_left = type(error) is EngineError and worker.is_gone
                if not has_left and (died or not isinstance(error, WorkerDied)):
                    raise
                died = died or not has_left
            await worker.ended.wait()

    async def load(self, model: str, *, keep_alive_s: float | None = None) -> None:
        """See `Models`."""
        self._give_back(await self._acquire(self._find(model), keep_alive_s))

    async def unload(self, model: str) -> bool:
        """See `Models`. A pinned model is loaded again with the next request."""
        worker = self._workers.get(self._find(model).key)
        if worker is None:
            return False
        self._let_go(worker, "unloads")
        await worker.ended.wait()
        return True

    # who gets a worker

    async def _acquire(self, found: FoundModel, keep_alive_s: float | None = None) -> PoolWorker:
        """The worker of a model, loaded, with one user more."""
        self._check_open()
        worker = self._workers.get(found.key)
        if worker is None or worker.leaving or worker.is_loading or self._is_held_back(worker.key):
            worker = await self._queue(found)
        else:
            worker.take()
        if keep_alive_s is not None:
            worker.keep_alive_s = keep_alive_s
        return worker

    async def _queue(self, found: FoundModel) -> PoolWorker:
        """As `_acquire`, after waiting."""
        timeout_s = self._options.queue_timeout_s
        now = self._now()
        turn = _Turn(next(self._numbers), now, math.inf if timeout_s is None else now + timeout_s)
        with self._waiting(found, turn):
            while (worker := await self._step(found, turn)) is None:
                self._check_open()
        return worker

    @contextmanager
    def _waiting(self, found: FoundModel, turn: _Turn) -> Iterator[None]:
        if self._queued[found.key] >= self._options.max_queue + self._options.slots:
            self._refused += 1
            raise QueueFull(
                f"{self._queued[found.key]} requests are already waiting for {found.row.ref}", hint=_TRY_LATER
            )
        self._queued[found.key] += 1
        self._turns.append(turn)
        try:
            yield
        finally:
            self._turns.remove(turn)
            self._queued[found.key] -= 1
            self._bell.ring()

    async def _step(self, found: FoundModel, turn: _Turn) -> PoolWorker | None:
        """One step towards a worker; None where another must follow."""
        worker = self._workers.get(found.key)
        if worker is None:
            await self._make_room(found, turn)
            return None
        turn.blocked_by = ()
        if worker.leaving or self._is_held_back(worker.key, turn):
            await self._pause(turn, f"{found.row.ref} was not loaded in time: other models need the memory")
            return None
        worker.take()
        try:
            await worker.until_loaded()
        except BaseException:
            self._give_back(worker)
            raise
        return worker

    async def _make_room(self, found: FoundModel, turn: _Turn) -> None:
        """Begin to load the model, or bring that one step nearer. Raises DoesNotFit, QueueTimeout, and what the loading would
        raise beforehand."""
        ref = found.row.ref
        self._guard(self._loading, found.key).check(ref)
        check_accepted(found.located)
        need = await self._need(found)
        if found.key in self._workers:
            return
        if any(other.is_before(turn, self._now()) for other in self._turns):
            await self._pause(turn, f"there was no room for {ref} in time: other requests came before")
            return
        step = make_room(ref, need, self._occupants(), self._limits, self._probe())
        if isinstance(step, Refusal):
            raise step.error()
        turn.blocked_by = step.refs if isinstance(step, Busy) else ()
        if isinstance(step, Room):
            self._begin(found, need)
            self._bell.ring()
        elif isinstance(step, Eviction):
            worker = self._workers[step.ref]
            self._let_go(worker, "evictions")
            await worker.ended.wait()
        else:
            await self._pause(turn, f"there was no room for {ref} in time: every model is in use")

    async def _pause(self, turn: _Turn, what: str) -> None:
        """Until something changes. Raises QueueTimeout."""
        now = self._now()
        if now >= turn.ends:
            self._refused += 1
            raise QueueTimeout(what, hint=_TRY_LATER)
        impatient = turn.since + PATIENCE_S
        await self._bell.heard(min(turn.ends, impatient if now < impatient else math.inf) - now)

    def _is_held_back(self, key: str, turn: _Turn | None = None) -> bool:
        """Whether somebody else waits too long for the room of this model."""
        now = self._now()
        return any(key in other.blocked_by and other.is_before(turn, now) for other in self._turns)

    def _give_back(self, worker: PoolWorker) -> None:
        worker.give_back(self._now())
        if not worker.users:
            self._now_idle(worker)
        while step := overdrawn(self._occupants(leaving=False), self._limits):
            self._let_go(self._workers[step.ref], "evictions")
        self._bell.ring()

    def _now_idle(self, worker: PoolWorker) -> None:
        """Unload it when its time is over."""
        if worker.pinned or worker.leaving or worker.is_loading or self._workers.get(worker.key) is not worker:
            return
        if worker.keep_alive_s <= 0:
            self._let_go(worker, "unloads")
        elif not math.isinf(worker.keep_alive_s):
            loop = asyncio.get_running_loop()
            worker.expires = loop.call_later(worker.keep_alive_s, self._let_go, worker, "unloads")

    # from the decision to load it to its end

    def _begin(self, found: FoundModel, need: int) -> None:
        keep_alive_s = self._options.keep_alive_s
        worker = PoolWorker(
            found,
            need,
            pinned=found.key in self._pinned,
            keep_alive_s=math.inf if keep_alive_s is None else keep_alive_s,
        )
        options = self._load_options(found)
        self._workers[found.key] = worker
        self._spawn(self._run(worker, options))

    async def _run(self, worker: PoolWorker, options: LoadOptions) -> None:
        """The life of a worker."""
        guard = self._guard(self._loading, worker.key)
        try:
            process = await self._or_closing(self._start_process(worker.found.load_name, options))
        except BaseException as error:
            if isinstance(error, WorkerDied):
                guard.crashed()
                self._tally.add(worker.ref, "crashes")
            self._tally.add(worker.ref, "failed_loads")
            self._remove(worker)
            worker.failed(error if isinstance(error, Exception) else _stopped())
            if not isinstance(error, Exception):
                raise
            return
        guard.worked()
        self._tally.add(worker.ref, "loads")
        worker.last_used = self._now()
        worker.loaded(process)
        if not worker.users:
            self._now_idle(worker)
        self._bell.ring()
        try:
            await self._watch(worker, process)
        finally:
            self._remove(worker)

    async def _or_closing(self, starting: Awaitable[Process]) -> Process:
        """Raises QueueTimeout if the pool is closed meanwhile."""
        start = asyncio.ensure_future(starting)
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({start, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                raise _stopped()
            return start.result()
        finally:
            for task in (start, closing):
                if not task.done():
                    task.cancel()
                    with suppress(asyncio.CancelledError, LmsupplyError):
                        await task

    async def _watch(self, worker: PoolWorker, process: Process) -> None:
        """Until the process has ended: by itself, or because it was let go."""
        ended = asyncio.ensure_future(process.wait_ended())
        left = asyncio.ensure_future(self._until_left(worker))
        try:
            await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                self._crashed(worker, process)
            else:
                await self._end(worker, process)
        except BaseException:
            process.kill()
            raise
        finally:
            for task in (ended, left):
                task.cancel()

    async def _end(self, worker: PoolWorker, process: Process) -> None:
        """Answers that still run may finish, then they are cancelled."""
        closing = asyncio.ensure_future(process.close(grace_s=self._grace_s + _LAST_S))
        try:
            await asyncio.wait({closing}, timeout=self._grace_s)
            for answer in list(worker.answers):
                answer.cancel()
            await closing
        finally:
            closing.cancel()

    async def _until_left(self, worker: PoolWorker) -> None:
        """Until nobody uses a worker that was let go, or the pool is closed."""
        await self._closing_or(worker.let_go)
        await self._closing_or(worker.idle)

    async def _closing_or(self, event: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(one.wait()) for one in (event, self._closing)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _crashed(self, worker: PoolWorker, process: Process) -> None:
        self._tally.add(worker.ref, "crashes")
        guard = self._guard(self._restarts, worker.key)
        if process.answered:
            guard.worked()
        guard.crashed()
        if worker.pinned and not worker.leaving and not guard.refused_s:
            self._spawn(self._restart(worker.found))

    async def _restart(self, found: FoundModel) -> None:
        """Load a pinned model again, as often as its guard lets it."""
        while not self._closing.is_set():
            try:
                self._give_back(await self._acquire(found))
                return
            except WorkerDied:
                if self._guard(self._loading, found.key).refused_s:
                    return
            except LmsupplyError:
                return

    def _let_go(self, worker: PoolWorker, why: str) -> None:
        """Unload it when those who use it now are done. `why`: a field of ModelStats."""
        if worker.leaving:
            return
        if worker.expires:
            worker.expires.cancel()
            worker.expires = None
        worker.let_go.set()
        self._tally.add(worker.ref, why)

    def _remove(self, worker: PoolWorker) -> None:
        if self._workers.get(worker.key) is worker:
            del self._workers[worker.key]
        worker.ended.set()
        self._bell.ring()

    async def close(self, *, grace_s: float = 30.0) -> None:
        """Take no more requests, let running answers finish for `grace_s`, then cancel them, and end all processes; a second
        call waits for the first. If it is cancelled, the processes are killed."""
        self._grace_s = min(self._grace_s, grace_s) if self._closing.is_set() else grace_s
        self._closing.set()
        self._bell.ring()
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End all processes at once."""
        for worker in self._workers.values():
            if worker.process:
                worker.process.kill()
        for task in self._tasks:
            task.cancel()

    # odds and ends

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise _stopped()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _occupants(self, *, leaving: bool = True) -> list[Occupant]:
        return [worker.occupant() for worker in self._workers.values() if leaving or not worker.leaving]

    def _guard(self, guards: dict[str, CrashGuard], key: str) -> CrashGuard:
        return guards.setdefault(key, CrashGuard(self._now))

    async def _need(self, found: FoundModel) -> int:
        """Estimated once for a model."""
        if self._provider_hook and found.key not in self._providers:
            self._providers[found.key] = await asyncio.to_thread(self._provider_hook, found.located)
        if self._needed_hook:
            return self._needed_hook(found)
        if found.key not in self._needs:
            load = self._load_of(found)
            context, provider = load.context or CONTEXT_TOKENS, load.provider
            self._needs[found.key] = await asyncio.to_thread(
                model_bytes, found.located, context, provider=provider, own_process=True
            )
        return self._needs[found.key]

    def _load_of(self, found: FoundModel) -> LoadOptions:
        """The pool's, on the provider of this model."""
        return replace(self._options.load, provider=self._providers.get(found.key, self._options.load.provider))

    def _load_options(self, found: FoundModel) -> LoadOptions:
        """With what the other models leave of the memory limit, and at most the model's own context."""
        load, limit = self._load_of(found), self._limits.bytes
        if load.context is not None:
            load = replace(load, context=min(load.context, found.row.context_length))
        if limit is None or load.memory_limit is not None:
            return load
        taken = sum(worker.bytes for worker in self._workers.values() if not worker.leaving)
        return replace(load, memory_limit=max(limit - taken, LEAST_MEMORY_BYTES))

    async def _start_real(self, name: str, options: LoadOptions) -> Process:
        from lmsupply_cli.serving.model_process import ModelProcess, WorkerLimits

        own = self._options
        limits = WorkerLimits(own.max_queue, own.slots, own.cache_bytes, own.queue_timeout_s)
        return await ModelProcess.start(name, options, limits=limits)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _stopped() -> QueueTimeout:
    return QueueTimeout("the models are being unloaded: this program stops", hint=_TRY_LATER)
