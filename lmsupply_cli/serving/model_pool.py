"""Several models under one budget: loaded when they are asked for, given back when others need the room.

Only a model that nobody uses is evicted, the one that was used longest ago first; a pinned one never. Of one model
there is one load at a time, however many ask.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lmsupply_cli.errors import QueueTimeout, UsageError
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.load import load
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.loading.plan import find_model
from lmsupply_cli.serving.generator_pool import GeneratorPool
from lmsupply_cli.serving.needs import model_bytes
from lmsupply_cli.serving.room import Eviction, Occupant, Refusal, Room, RoomLimits, make_room
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.units import parse_memory


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in the pool, as `ModelPool.stats` shows it. `bytes` are estimated."""

    ref: str
    bytes: int
    in_use: int
    pinned: bool
    idle_s: float


@dataclass(frozen=True, slots=True)
class PoolStats:
    """`waiting`: callers that wait for room or a load; `hits`: requests for models already loaded; `loads`, `evictions` so far."""

    models: tuple[LoadedModel, ...]
    waiting: int
    loads: int
    hits: int
    evictions: int

    @property
    def bytes(self) -> int:
        """Estimated bytes of all models."""
        return sum(model.bytes for model in self.models)


@dataclass
class _Entry:
    bytes: int
    pool: GeneratorPool | None = None  # None while it is loaded
    in_use: int = 0
    last_used: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolHooks:
    """Replaceable functions of a pool, for tests and special needs: `load` a model, the bytes that it needs,
    the free bytes of this machine, and the clock; None for the pool's own."""

    load: Callable[[str], TextGenerator] | None = None
    needed_bytes: Callable[[str], int] | None = None
    probe_memory: Callable[[], int] | None = None
    clock: Callable[[], float] = time.monotonic


class ModelPool:
    """Use it in `with`, or close it.

    >>> from lmsupply import ModelPool
    >>> with ModelPool(memory_limit="8GB") as pool, pool.use("guide") as model:
    ...     print(model.generate("hello"))
    """

    def __init__(
        self,
        *,
        memory_limit: int | str | None = None,
        max_models: int | None = None,
        idle_timeout_s: float | None = None,
        concurrency: int = 1,
        context: int = 4096,
        hooks: PoolHooks | None = None,
    ) -> None:
        """`memory_limit`: of all models together, by estimate; `idle_timeout_s`: a model that is idle for longer is
        evicted at the next call; `concurrency` and `context`: of each model. Raises UsageError."""
        hooks = hooks or PoolHooks()
        if max_models is not None and max_models < 1:
            raise UsageError("`max_models` must be at least 1")
        limit = parse_memory(memory_limit) if isinstance(memory_limit, str) else memory_limit
        self._limits = RoomLimits(limit, max_models)
        self._idle_timeout_s, self._concurrency = idle_timeout_s, concurrency
        self._load = hooks.load or (lambda ref: _load(ref, context))
        self._needed = hooks.needed_bytes or (lambda ref: model_bytes(find_model(ref), context, own_process=False))
        self._probe = hooks.probe_memory or (lambda: detect_memory().available_bytes)
        self._clock = hooks.clock
        self._models: dict[str, _Entry] = {}
        self._pinned: set[str] = set()
        self._changed = threading.Condition()
        self._waiting = self._loads = self._hits = self._evictions = 0
        self._closed = False

    @contextmanager
    def use(self, ref: str, *, timeout_s: float | None = None) -> Iterator[GeneratorPool]:
        """The model, loaded if needed; it is not evicted while in use. `timeout_s`: how long to wait for room. Raises
        DoesNotFit, QueueTimeout, and what loading raises."""
        entry = self._take(ref, timeout_s)
        try:
            assert entry.pool is not None
            yield entry.pool
        finally:
            with self._changed:
                entry.in_use -= 1
                entry.last_used = self._clock()
                self._changed.notify_all()

    def pin(self, ref: str) -> None:
        """Never evict the model once it is loaded."""
        with self._changed:
            self._pinned.add(ref)

    def unpin(self, ref: str) -> None:
        """Allow evicting the model again."""
        with self._changed:
            self._pinned.discard(ref)
            self._changed.notify_all()

    def sweep(self) -> list[str]:
        """Evict models that were idle for longer than the timeout; returns their refs. Every `use` does this too."""
        with self._changed:
            if self._idle_timeout_s is None:
                return []
            now = self._clock()
            late = [ref for ref, entry in self._idle().items() if now - entry.last_used >= self._idle_timeout_s]
            for ref in late:
                self._evict(ref)
            return late

    @property
    def stats(self) -> PoolStats:
        """Current statistics."""
        with self._changed:
            now = self._clock()
            models = tuple(
                LoadedModel(ref, e.bytes, e.in_use, ref in self._pinned, 0.0 if e.in_use else now - e.last_used)
                for ref, e in self._models.items()
                if e.pool is not None
            )
            return PoolStats(models, self._waiting, self._loads, self._hits, self._evictions)

    def close(self) -> None:
        """Waits until the models are idle, then frees them all; a second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: all(e.in_use == 0 and e.pool for e in self._models.values()))
            for ref in list(self._models):
                self._evict(ref, count=False)

    def __enter__(self) -> ModelPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, ref: str, timeout_s: float | None) -> _Entry:
        self.sweep()
        ends = None if timeout_s is None else self._clock() + timeout_s
        with self._changed:
            while True:
                if self._closed:
                    raise UsageError("the pool is closed", hint="make a new one")
                entry = self._models.get(ref)
                if entry is None:
                    entry = self._begin(ref, ends)
                    if entry is not None:
                        break
                elif entry.pool is not None:
                    self._hits += 1
                    entry.in_use += 1
                    return entry
                self._wait(ends, f"{ref} was not loaded")
        try:
            pool = GeneratorPool(self._load(ref), concurrency=self._concurrency)
        except BaseException:
            with self._changed:
                del self._models[ref]
                self._changed.notify_all()
            raise
        with self._changed:
            entry.pool, entry.in_use, entry.last_used = pool, 1, self._clock()
            self._loads += 1
            self._changed.notify_all()
        return entry

    def _begin(self, ref: str, ends: float | None) -> _Entry | None:
        """A place for it, when there is room; None if it came meanwhile, by another caller."""
        need = self._needed(ref)
        while not isinstance(step := make_room(ref, need, self._held(), self._limits, self._probe()), Room):
            if isinstance(step, Refusal):
                raise step.error()
            if isinstance(step, Eviction):
                self._evict(step.ref)
                continue
            self._wait(ends, f"there was no room for {ref}: every model is in use")
            if ref in self._models:
                return None
        entry = self._models[ref] = _Entry(need)
        return entry

    def _held(self) -> list[Occupant]:
        return [
            Occupant(
                ref,
                entry.bytes,
                in_use=bool(entry.in_use) or entry.pool is None,
                pinned=ref in self._pinned,
                last_used=entry.last_used,
                pending_bytes=entry.bytes if entry.pool is None else 0,
            )
            for ref, entry in self._models.items()
        ]

    def _idle(self) -> dict[str, _Entry]:
        """Models that may be evicted."""
        return {
            ref: entry
            for ref, entry in self._models.items()
            if entry.pool is not None and not entry.in_use and ref not in self._pinned
        }

    def _evict(self, ref: str, *, count: bool = True) -> None:
        entry = self._models.pop(ref)
        assert entry.pool is not None
        entry.pool.close()
        self._evictions += count
        self._changed.notify_all()

    def _wait(self, ends: float | None, what: str) -> None:
        left = None if ends is None else ends - self._clock()
        if left is not None and left <= 0:
            raise QueueTimeout(what + " in time", hint="try again later, or wait longer")
        self._waiting += 1
        try:
            self._changed.wait(left if left is None else min(left, 0.05))  # the clock may be another than the lock's
        finally:
            self._waiting -= 1


def _load(ref: str, context: int) -> TextGenerator:
    own = open_model(find_model(ref)).model["context_length"]
    return load(ref, context=min(context, own))
