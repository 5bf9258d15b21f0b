"""CPU and memory as this process may use them; the only psutil importer, where the system has no /proc that tells."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from lmsupply_cli.hardware import apple, linux
from lmsupply_cli.hardware.cgroup import GroupLimits, read_group_limits
from lmsupply_cli.hardware.profile import Cpu, Memory

T = TypeVar("T")
_PROC = Path("/proc")


class Bound(NamedTuple):
    """A limit on the memory of this process, what is left of it, and who sets it."""

    set_by: str
    limit_bytes: int
    available_bytes: int


def detect_cpu() -> Cpu:
    """Never raises: what the system does not tell is left out."""
    logical = os.cpu_count() or 1
    physical = _tried(linux.physical_cores, 0) or _tried(_cores_of_psutil, None) or logical
    nothing: tuple[str, tuple[str, ...], int | None] = ("", (), None)
    name, instructions, performance = _tried(_cpu_details, nothing)
    groups = read_group_limits()
    allowed = min((count for count in (_allowed(), groups.cpus) if count), default=None)
    return Cpu(
        name=name or platform.processor() or "unknown",
        architecture=platform.machine(),
        physical_cores=physical,
        logical_cores=logical,
        performance_cores=performance,
        instructions=instructions,
        quota=groups.quota,
        usable_threads=choose_threads(physical, logical, performance, allowed, groups.quota),
        most_threads=most_threads(logical, allowed, groups.quota),
    )


def detect_memory() -> Memory:
    """Never raises: what the system does not tell is 0."""
    ways = (_memory_of_proc, _memory_of_psutil, _memory_of_sysconf)
    found = next((memory for way in ways if (memory := _tried(way, None))), Memory(0, 0, 0, None))
    bounds = [*group_bounds(read_group_limits()), *process_bounds(_resource_limits(), _sizes("self/status"))]
    return bounded(found, bounds)


def bounded(memory: Memory, bounds: Sequence[Bound]) -> Memory:
    """What of the machine's memory this process may use: every limit holds, the smallest is named."""
    narrow = [bound for bound in bounds if not memory.total_bytes or bound.limit_bytes < memory.total_bytes]
    smallest = min(narrow, key=lambda bound: bound.limit_bytes, default=None)
    if smallest is None:
        return memory
    available = [bound.available_bytes for bound in bounds]
    return Memory(
        smallest.limit_bytes,
        max(0, min([memory.available_bytes, *available] if memory.total_bytes else available)),
        memory.swap_bytes,
        smallest.limit_bytes,
        smallest.set_by,
    )


def group_bounds(groups: GroupLimits) -> list[Bound]:
    if groups.limit_bytes is None or groups.available_bytes is None:
        return []
    return [Bound("the container", groups.limit_bytes, groups.available_bytes)]


def process_bounds(limits: Mapping[str, int], status: Mapping[str, int]) -> list[Bound]:
    """`limits`: bytes of `ulimit -v` and `ulimit -d`; `status`: bytes that /proc/self/status names."""
    used = {"ulimit -v": status.get("VmSize", 0), "ulimit -d": status.get("VmData", 0)}
    return [Bound(name, limit, max(0, limit - used[name])) for name, limit in limits.items()]


def grant_threads(wanted: int | None, cpu: Cpu) -> tuple[int, str]:
    """Threads for the engine, and what is to be said where they are fewer than `wanted`.

    They are cut rather than refused: the number may stand in settings that several machines and containers share, and
    it changes the speed of an answer, not its text.
    """
    if wanted is None or wanted <= cpu.most_threads:
        return wanted or cpu.usable_threads, ""
    most = cpu.most_threads
    return most, f"{wanted} threads were requested, but only {most} can run at once here; using {most}"


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


def most_threads(logical: int, allowed: int | None, quota: float | None) -> int:
    """How many threads can run at once: more of them only wait for one another, and a token takes many times as long."""
    return max(1, min(logical, allowed or logical, math.ceil(quota) if quota else logical))


def give_back_memory() -> None:
    """Let the C library return what was freed: glibc keeps it otherwise, hundreds of MB after a large model."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # musl has no such call
            ctypes.CDLL(None).malloc_trim(0)


def memory_used_bytes() -> tuple[int, int]:
    """Resident memory of this process: (now, peak); 0 where the system does not tell."""
    # getrusage would count what the parent held before this program was started in its place
    sizes = _sizes("self/status")
    now, peak = sizes.get("VmRSS", 0), sizes.get("VmHWM", 0)
    if not now:
        now, peak = _tried(_used_of_psutil, (0, 0))
    peak = peak or _tried(_peak_of_rusage, 0)
    return now or peak, peak or now


def process_bytes(pid: int) -> int:
    """Resident memory of another process; 0 where it has ended or the system does not tell."""
    return _sizes(f"{pid}/status").get("VmRSS", 0) or _tried(lambda: _rss_of_psutil(pid), 0)


def _rss_of_psutil(pid: int) -> int:
    import psutil

    return int(psutil.Process(pid).memory_info().rss)


def _used_of_psutil() -> tuple[int, int]:
    import psutil

    info = psutil.Process().memory_info()
    return info.rss, getattr(info, "peak_wset", 0)


def _peak_of_rusage() -> int:
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _sizes(name: str) -> dict[str, int]:
    """Linux: the sizes in a file of /proc, in bytes."""
    rows = (line.split() for line in _tried(lambda: (_PROC / name).read_text(errors="replace"), "").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


def _resource_limits() -> dict[str, int]:
    """Only Linux holds a process to them; a limit that is not set is left out."""
    if sys.platform != "linux":
        return {}
    import resource

    kinds = {"ulimit -v": resource.RLIMIT_AS, "ulimit -d": resource.RLIMIT_DATA}
    soft = {name: _tried(lambda kind=kind: resource.getrlimit(kind)[0], -1) for name, kind in kinds.items()}  # type: ignore[misc]
    return {name: limit for name, limit in soft.items() if limit not in (-1, resource.RLIM_INFINITY)}


def _cores_of_psutil() -> int | None:
    import psutil

    return psutil.cpu_count(logical=False)


def _memory_of_proc() -> Memory:
    """Linux: the figures that psutil reads, too, without the cost of importing it."""
    sizes = _sizes("meminfo")
    total = sizes["MemTotal"]
    return Memory(total, min(total, sizes["MemAvailable"]), sizes.get("SwapTotal", 0), None)


def _memory_of_psutil() -> Memory:
    import psutil

    memory = psutil.virtual_memory()
    return Memory(memory.total, memory.available, _tried(lambda: psutil.swap_memory().total, 0), None)


def _memory_of_sysconf() -> Memory:
    """If neither of them tells."""
    page = os.sysconf("SC_PAGE_SIZE")
    return Memory(page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES"), 0, None)


def _tried(ask: Callable[[], T], otherwise: T) -> T:
    """psutil and the systems below it fail in many ways; none of them is an error of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask()
    except Exception:
        return otherwise


def _allowed() -> int | None:
    if sys.platform != "linux":
        return None
    return _tried(lambda: len(os.sched_getaffinity(0)), None)


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
