"""CPU, cores, memory of the machine as this process may use them; the only psutil importer."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Host:
    """Cores that exist, and those this process may use (affinity and container quota)."""

    cpu: str
    machine: str
    system: str
    physical_cores: int
    logical_cores: int
    usable_threads: int
    memory_bytes: int
    available_bytes: int


def detect_host() -> Host:
    import psutil

    memory = psutil.virtual_memory()
    logical = psutil.cpu_count(logical=True) or 1
    limit = memory_limit_bytes()
    total = min(memory.total, limit) if limit else memory.total
    return Host(
        cpu=_cpu_name(),
        machine=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        physical_cores=psutil.cpu_count(logical=False) or logical,
        logical_cores=logical,
        usable_threads=usable_threads(),
        memory_bytes=total,
        available_bytes=min(memory.available, total),
    )


def usable_threads() -> int:
    """Physical cores within affinity and quota. The engine's own default is half the logical
    ones, which leaves half the cores idle where there is no SMT (11 against 20 tokens/s)."""
    import psutil

    logical = psutil.cpu_count(logical=True) or 1
    cores = psutil.cpu_count(logical=False) or logical
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        cores = min(cores, max(1, math.ceil(allowed * cores / logical)))
    quota = cpu_quota()
    return max(1, min(cores, math.floor(quota) if quota else cores))


def memory_used_bytes() -> tuple[int, int]:
    """Resident memory of this process: (now, peak)."""
    import psutil

    info = psutil.Process().memory_info()
    peak = getattr(info, "peak_wset", 0)
    if not peak:
        try:
            import resource

            unit = 1 if platform.system() == "Darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        except ImportError:
            peak = info.rss
    return info.rss, peak


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
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


def memory_limit_bytes(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Memory that the container may use (cgroup v2, then v1); None where unlimited."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = int((root / name).read_text())
        except (OSError, ValueError):
            continue
        return limit if limit < 2**60 else None
    return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"
