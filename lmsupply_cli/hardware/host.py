"""CPU and memory as this process may use them; the only psutil importer."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
from pathlib import Path

from lmsupply_cli.hardware import apple, linux
from lmsupply_cli.hardware.profile import Cpu, Memory

_CGROUP = Path("/sys/fs/cgroup")


def detect_cpu() -> Cpu:
    import psutil

    logical = psutil.cpu_count(logical=True) or 1
    physical = psutil.cpu_count(logical=False) or logical
    name, instructions, performance = _cpu_details()
    quota = cpu_quota()
    return Cpu(
        name=name or platform.processor() or "unknown",
        architecture=platform.machine(),
        physical_cores=physical,
        logical_cores=logical,
        performance_cores=performance,
        instructions=instructions,
        quota=quota,
        usable_threads=choose_threads(physical, logical, performance, _allowed(), quota),
    )


def detect_memory() -> Memory:
    import psutil

    memory, limit = psutil.virtual_memory(), memory_limit_bytes()
    used = memory_usage_bytes() if limit else None
    total = min(memory.total, limit) if limit else memory.total
    available = min(memory.available, limit - used) if limit and used is not None else min(memory.available, total)
    return Memory(total, max(0, available), psutil.swap_memory().total, limit)


def usable_threads() -> int:
    """The number of threads that the engine gets."""
    return detect_cpu().usable_threads


def choose_threads(
    physical: int, logical: int, performance: int | None, allowed: int | None, quota: float | None
) -> int:
    """Physical cores within affinity and quota, performance cores only where the CPU is hybrid.

    The engine's own default is half the logical ones, which leaves half the cores idle where
    there is no SMT (11 against 20 tokens/s). `allowed` logical CPUs by affinity, None where unknown.
    """
    cores = min(physical, performance) if performance else physical
    if allowed is not None and allowed < logical:
        cores = min(cores, max(1, math.ceil(allowed * physical / logical)))
    if quota:
        cores = min(cores, math.floor(quota))
    return max(1, cores)


def give_back_memory() -> None:
    """Let the C library return what was freed: glibc keeps it otherwise, hundreds of MB after a large model."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # musl has no such call
            ctypes.CDLL(None).malloc_trim(0)


def memory_used_bytes() -> tuple[int, int]:
    """Resident memory of this process: (now, peak)."""
    import psutil

    info = psutil.Process().memory_info()
    peak = getattr(info, "peak_wset", 0) or _peak_of_proc()
    if not peak:
        try:
            import resource

            unit = 1 if platform.system() == "Darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        except ImportError:
            peak = info.rss
    return info.rss, peak


def _peak_of_proc(status: Path = Path("/proc/self/status")) -> int:
    """Linux: getrusage would count what the parent held before this program was started in its place."""
    try:
        return next(
            int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:")
        )
    except (OSError, StopIteration, ValueError):
        return 0


def cpu_quota(root: Path = _CGROUP) -> float | None:
    """CPUs that the container may use (cgroup v2, then v1); None where unlimited."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((root / "cpu/cpu.cfs_quota_us").read_text())
        return quota_us / int((root / "cpu/cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    except (OSError, ValueError):
        return None


def memory_limit_bytes(root: Path = _CGROUP) -> int | None:
    """Memory that the container may use (cgroup v2, then v1); None where unlimited."""
    limit = _number(root, "memory.max", "memory/memory.limit_in_bytes")
    return limit if limit is not None and limit < 2**60 else None


def memory_usage_bytes(root: Path = _CGROUP) -> int | None:
    """Memory that the container uses now."""
    return _number(root, "memory.current", "memory/memory.usage_in_bytes")


def _number(root: Path, *names: str) -> int | None:
    for name in names:
        try:
            return int((root / name).read_text())
        except (OSError, ValueError):
            continue
    return None


def _allowed() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _cpu_details() -> tuple[str, tuple[str, ...], int | None]:
    """(name, instruction sets, performance cores) as far as the system tells."""
    if sys.platform == "darwin":
        values = apple.probe()
        name = values.get("machdep.cpu.brand_string", "")
        return name, apple.apple_instructions(values), apple.performance_cores(values)
    try:
        name, instructions = linux.parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return "", (), None
    return name, instructions, linux.performance_cores()
