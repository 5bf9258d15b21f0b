"""A limit on the memory of the process: planned before loading, checked before each cache, watched while text is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmsupply_cli.engine.base import PREFILL_CHUNK
from lmsupply_cli.errors import DoesNotFit, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.hardware.host import detect_memory, memory_used_bytes
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.rough import MARGIN
from lmsupply_cli.memory.shape import MemoryShape
from lmsupply_cli.memory.watch import CRITICAL, WARNING, MemoryWatch
from lmsupply_cli.providers import CPU
from lmsupply_cli.units import format_bytes, parse_memory

if TYPE_CHECKING:
    from lmsupply_cli.hardware.profile import HardwareProfile


def resident_bytes() -> int:
    return memory_used_bytes()[0]


def planning_bytes(limit_bytes: int | None, provider: str = CPU.name) -> int | None:
    """What may be planned with: what is free on the provider's device, at most the limit; None if that is not known.

    On the CPU what this process holds already counts as free: it is part of the estimate.
    """
    if provider == CPU.name:
        memory = detect_memory()
        free: int | None = memory.available_bytes + resident_bytes() if memory.total_bytes else limit_bytes
    else:
        from lmsupply_cli.hardware.detect import detect_hardware

        free = device_bytes(provider, detect_hardware())
    if free is None or limit_bytes is None:
        return free
    return min(limit_bytes, free)


def device_bytes(provider: str, profile: HardwareProfile) -> int | None:
    """Free memory of the largest GPU that the provider can use; its whole memory where only that is known."""
    from lmsupply_cli.hardware.choice import usable_gpus

    gpus = usable_gpus(provider, profile)
    known = [gpu.free_bytes if gpu.free_bytes is not None else gpu.total_bytes for gpu in gpus]
    return max((size for size in known if size is not None), default=None)


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """A limit on the memory of the process, in bytes or as "8GB", and shares of it: a new cache may use up to `before`;
    at `warning` there is a notice; at `critical` the answer ends early."""

    limit: int | str
    before: float = MARGIN
    warning: float = WARNING
    critical: float = CRITICAL

    def __post_init__(self) -> None:
        try:
            parse_memory(self.limit)
        except UsageError as error:
            raise UsageError(f"memory_limit: {error.message}", hint=error.hint) from error
        if not 0 < self.warning <= self.critical <= 1 or not 0 < self.before <= 1:
            raise UsageError(
                "memory thresholds are shares from 0 to 1, and a warning comes before the end",
                hint=f"before={MARGIN}, warning={WARNING}, critical={CRITICAL}",
            )

    @property
    def limit_bytes(self) -> int:
        """`limit` as a number."""
        return parse_memory(self.limit)


@dataclass(frozen=True)
class MemoryBudget:
    """`used` gives the bytes that the process holds now."""

    limit_bytes: int
    shape: MemoryShape | None
    used: Callable[[], int] = resident_bytes
    every: int = 8  # tokens between two looks
    before: float = MARGIN
    warning: float = WARNING
    critical: float = CRITICAL

    def check_cache(self, tokens: int) -> None:
        """Raises DoesNotFit if a cache for `tokens` would pass the share `before` of the limit, with what is read at
        once beyond an ordinary chunk (longrope)."""
        self.check(
            self.shape.cache_bytes(tokens) + _long_piece_bytes(self.shape, tokens) if self.shape else 0,
            f"a context of {tokens:,} tokens",
            hint="raise `memory_limit`, or use a smaller `context` or `max_tokens`",
        )

    def check(self, more_bytes: int, what: str, *, hint: str) -> None:
        """Raises DoesNotFit if `more_bytes` for `what` would pass the share `before` of the limit."""
        needed, usable = self.used() + more_bytes, int(self.limit_bytes * self.before)
        if needed > usable:
            raise DoesNotFit(
                f"{what} would bring the process to {format_bytes(needed)}, "
                f"{format_bytes(usable)} of the limit may be used",
                hint=hint,
            )

    def watch(self) -> MemoryWatch:
        return MemoryWatch(self.limit_bytes, self.used, self.every, warning=self.warning, critical=self.critical)


def _long_piece_bytes(shape: MemoryShape, tokens: int) -> int:
    needed, ordinary = estimate_memory(shape, tokens), estimate_memory(shape, tokens, chunk_tokens=PREFILL_CHUNK)
    return needed.work_bytes + needed.logits_bytes - ordinary.work_bytes - ordinary.logits_bytes


def memory_notice(watch: MemoryWatch, state: str) -> Notice:
    used, limit = format_bytes(watch.used()), format_bytes(watch.limit_bytes)
    if state == "critical":
        return Notice("memory_critical", f"{used} of {limit} are in use: the answer ends here")
    return Notice("memory_warning", f"{used} of {limit} are in use")
