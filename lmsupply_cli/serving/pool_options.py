"""How a WorkerPool is set up, and the world that it works in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lmsupply_cli.errors import UsageError
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving.pool_worker import Process
from lmsupply_cli.serving.room import RoomLimits
from lmsupply_cli.serving.served_models import FoundModel, ServedModels
from lmsupply_cli.store.locate import LocatedModel
from lmsupply_cli.units import parse_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPoolOptions:
    """`memory_limit`: of all models together; `keep_alive_s`: how long a model stays loaded when nobody asks for it, None
    for ever; `max_queue`: requests that may wait for one model; `slots`: answers of one model at once; `cache_bytes`: of
    prompt caches, of one model; `queue_timeout_s`: how long a request waits for its turn, None for no limit; `pinned`:
    models that are loaded at the start and never unloaded. Raises UsageError."""

    memory_limit: int | str | None = None
    keep_alive_s: float | None = 600.0
    max_models: int | None = None
    max_queue: int = 64
    slots: int = 4
    cache_bytes: int | None = None
    queue_timeout_s: float | None = 300.0
    pinned: tuple[str, ...] = ()
    load: LoadOptions = field(default_factory=LoadOptions)

    def __post_init__(self) -> None:
        if self.memory_limit is not None:
            parse_memory(self.memory_limit)
        least = {"max_models": 1, "max_queue": 0, "slots": 1, "keep_alive_s": 0, "queue_timeout_s": 0}
        for name, number in least.items():
            value = getattr(self, name)
            if value is not None and not value >= number:
                raise UsageError(f"`{name}` must be at least {number}, not {value}")

    @property
    def limits(self) -> RoomLimits:
        """As the decisions about room need them."""
        return RoomLimits(None if self.memory_limit is None else parse_memory(self.memory_limit), self.max_models)


@dataclass(frozen=True, slots=True)
class WorkerPoolHooks:
    """The world of a pool, for tests: how a process is `start`ed, the bytes that a model needs, the free bytes of this
    machine, and what can be asked for; None for the real one. `provider`: the one that a model is loaded with, instead of that
    of the options; it is asked in a thread, before a model is first loaded."""

    start: Callable[[str, LoadOptions], Awaitable[Process]] | None = None
    needed_bytes: Callable[[FoundModel], int] | None = None
    probe_memory: Callable[[], int] | None = None
    models: ServedModels | None = None
    provider: Callable[[LocatedModel], str] | None = None
