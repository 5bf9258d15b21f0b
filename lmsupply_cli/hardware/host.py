"""CPU and memory as this process may use them; the only psutil importer."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
from pathlib import Path

from lmsupply_cli.hardware import apple, cgroup, linux
from lmsupply_cli.hardware.profile import Cpu, Memory


def detect_cpu() -> Cpu:
    import psutil

    logical = psutil.cpu_count(logical=True) or 1
    physical = psutil.cpu_count(logical=False) or logical
    name, instructions, performance = _cpu_details()
    quota = cgroup.cpu_quota()
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
    """What the machine has, within every limit that the kernel applies to this process: control groups, `ulimit -v` and
    `ulimit -d`. File cache counts as available, as in MemAvailable. What cannot be found out is 0; nothing is raised."""
    total, available, swap = _machine_memory()
    limits = [(group.limit_bytes, group.free_bytes) for group in cgroup.memory_groups()] + _process_limits()
    limit = min((most for most, _ in limits), default=None)
    room = min([available, *(free for _, free in limits)])
    return Memory(total if limit is None else min(total, limit), max(0, room), swap, limit)


def _machine_memory() -> tuple[int, int, int]:
    """(total, available, swap) in bytes."""
    import psutil

    try:
        memory = psutil.virtual_memory()
        total, available = memory.total, memory.available
    except (psutil.Error, OSError, RuntimeError, ValueError):  # /proc that is not mounted, or hidden
        page, names = _configured("SC_PAGE_SIZE"), ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES")
        total, available = (page * _configured(name) for name in names)
    try:
        return total, available, psutil.swap_memory().total
    except (psutil.Error, OSError, RuntimeError, ValueError):
        return total, available, 0


def _configured(name: str) -> int:
    try:
        return max(0, os.sysconf(name))
    except (AttributeError, OSError, ValueError):
        return 0


def _process_limits() -> list[tuple[int, int]]:
    """(limit, what is left of it) of the address space and the data segment of this process, in bytes."""
    try:
        import resource
    except ImportError:
        return []
    import psutil

    try:
        held = psutil.Process().memory_info()
    except (psutil.Error, OSError):
        return []
    found = []
    for kind, used in ((resource.RLIMIT_AS, held.vms), (resource.RLIMIT_DATA, getattr(held, "data", 0))):
        limit = resource.getrlimit(kind)[0]
        if limit not in (resource.RLIM_INFINITY, -1):
            found.append((limit, max(0, limit - used)))
    return found


def usable_threads() -> int:
    """The number of threads that the engine gets."""
    return detect_cpu().usable_threads


def most_threads() -> int:
    """More than these only wait for each other: the CPUs that the process may use, the logical ones counted."""
    import psutil

    logical, quota = _allowed() or psutil.cpu_count(logical=True) or 1, cgroup.cpu_quota()
    return max(1, min(logical, math.ceil(quota)) if quota else logical)


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
