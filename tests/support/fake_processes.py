"""Processes of models without an engine, for the tests of WorkerPool: they load, answer and crash as they are told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.errors import EngineError, LmsupplyError, ModelNotFound, QueueFull, WorkerDied
from lmsupply_cli.events import Finished, GenerationEvent, Notice, TextDelta, Usage
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving.pool_options import WorkerPoolHooks, WorkerPoolOptions
from lmsupply_cli.serving.requests import AnswerRequest, ServedModel
from lmsupply_cli.serving.served_models import FoundModel
from lmsupply_cli.serving.worker_pool import WorkerPool
from lmsupply_cli.store.locate import LocatedModel

GB = 10**9


@dataclass(eq=False)
class FakeAnswer:
    """Two pieces of text, `seconds` apart; `last`: its last event, once it was given."""

    process: FakeProcess
    seconds: float
    prompt_tokens: int = 5
    notices: tuple[Notice, ...] = ()
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    last: Finished | None = None

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        try:
            for text in ("Hel", "lo"):
                if await self._waits():
                    break
                yield TextDelta(text)
            reason = "cancelled" if self.cancelled.is_set() else "stop"
            self.last = Finished(reason, Usage(5, 1, 2))  # type: ignore[arg-type]
            self.process.done(self)
            yield self.last
        finally:
            self.process.done(self)

    async def _waits(self) -> bool:
        """Whether it was cancelled meanwhile. Raises WorkerDied."""
        waits = [asyncio.ensure_future(one.wait()) for one in (self.cancelled, self.process.ended)]
        try:
            await asyncio.wait(waits, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.process.ended.is_set() and not self.cancelled.is_set():
            raise WorkerDied(f"the process of {self.process.ref} ended")
        return self.cancelled.is_set()

    def cancel(self) -> None:
        self.cancelled.set()
        self.process.done(self)


@dataclass(eq=False)
class FakeProcess:
    """`active`: answers that are not at their end; `slots` of them run, `queue` may wait, and all go on."""

    world: World
    ref: str
    bytes: int
    pid: int
    options: LoadOptions
    slots: int = 4
    queue: int = 4
    context_tokens: int = 2048
    answered: int = 0
    active: list[FakeAnswer] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False

    @property
    def notices(self) -> tuple[Notice, ...]:
        return ()

    @property
    def info(self) -> Any:
        return SimpleNamespace(provider="cpu", ref=self.ref)

    @property
    def running(self) -> int:
        return min(self.slots, len(self.active))

    @property
    def waiting(self) -> int:
        return len(self.active) - self.running

    async def answer(self, request: AnswerRequest) -> FakeAnswer:
        if self.closing or self.ended.is_set():
            raise EngineError(f"{self.ref} was unloaded")
        await asyncio.sleep(0.01)
        if self.closing or self.ended.is_set():
            raise WorkerDied(f"the process of {self.ref} ended")
        if len(self.active) >= self.slots + self.queue:
            raise QueueFull("too many")
        answer = FakeAnswer(self, float(request.options.get("seconds", 1.0)))
        self.active.append(answer)
        return answer

    async def count_tokens(self, request: AnswerRequest) -> int:
        await asyncio.sleep(0.01)
        return 5

    def done(self, answer: FakeAnswer) -> None:
        if answer in self.active:
            self.active.remove(answer)
            self.answered += not answer.cancelled.is_set()

    def memory_bytes(self) -> int:
        return 0 if self.ended.is_set() else self.bytes

    async def close(self, *, grace_s: float = 30.0) -> None:
        self.closing = True
        ends = asyncio.get_running_loop().time() + grace_s
        while self.active and asyncio.get_running_loop().time() < ends and not self.ended.is_set():
            await asyncio.sleep(min(0.25, grace_s))
        for answer in list(self.active):
            answer.cancel()
        await asyncio.sleep(0.1)
        self._end()

    def kill(self) -> None:
        self._end()

    def _end(self) -> None:
        self.ended.set()
        self.world.alive.discard(self)

    async def wait_ended(self) -> int:
        await self.ended.wait()
        return -9


@dataclass(eq=False)
class World:
    """What a pool is given instead of the machine and the store. `sizes`: bytes by model; `grown`: what they really take, if
    it differs; `failing`: what loading raises; `load_s`: how long it takes."""

    sizes: dict[str, int]
    grown: dict[str, int] = field(default_factory=dict)
    failing: dict[str, LmsupplyError] = field(default_factory=dict)
    load_s: float = 2.0
    total: int = 10**13
    loads: Counter[str] = field(default_factory=Counter)
    alive: set[FakeProcess] = field(default_factory=set)
    starting: int = 0
    most_bytes: int = 0
    most_alive: int = 0

    async def start(self, name: str, options: LoadOptions) -> FakeProcess:
        self.loads[name] += 1
        self.starting += self.sizes[name]
        try:
            await asyncio.sleep(self.load_s)
        finally:
            self.starting -= self.sizes[name]
        if name in self.failing:
            raise self.failing[name]
        process = FakeProcess(self, name, self.grown.get(name, self.sizes[name]), 1000 + self.loads.total(), options)
        self.alive.add(process)
        self.most_bytes = max(self.most_bytes, sum(one.bytes for one in self.alive))
        self.most_alive = max(self.most_alive, len(self.alive))
        return process

    def process(self, ref: str) -> FakeProcess:
        """The one that runs the model."""
        return next(one for one in self.alive if one.ref == ref)

    def free(self) -> int:
        return self.total - sum(one.bytes for one in self.alive)

    # as ServedModels

    def all(self) -> list[FoundModel]:
        return [self.find(ref, self.free) for ref in self.sizes]

    def find(self, name: str, available_bytes: object) -> FoundModel:
        if name not in self.sizes:
            raise ModelNotFound(f"model {name!r} not found")
        row = ServedModel(name, (), 4096, self.sizes[name], 0.0, "ab" * 32)
        return FoundModel(f"/models/{name}", name, LocatedModel(name, Path(f"/models/{name}"), UNKNOWN_LICENSE), row)

    def pool(self, *, provider: Callable[[LocatedModel], str] | None = None, **options: Any) -> WorkerPool:
        """With the options of WorkerPoolOptions."""
        hooks = WorkerPoolHooks(
            start=self.start,
            needed_bytes=lambda found: self.sizes[found.row.ref],
            probe_memory=self.free,
            models=self,  # type: ignore[arg-type]
            provider=provider,
        )
        made = WorkerPoolOptions(**options)
        return WorkerPool(replace(made), hooks=hooks)


def asks(seconds: float = 1.0) -> AnswerRequest:
    """A request whose answer comes in two pieces, each after so many seconds."""
    return AnswerRequest(text="x", options={"seconds": seconds})
