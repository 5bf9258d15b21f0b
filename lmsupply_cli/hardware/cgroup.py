"""Limits of the control groups that this process is in (Linux): v1, v2 and hybrid, its own group and every parent.

/proc/self/cgroup names the group, often as the host sees it; what is mounted may be the whole tree or only the
container's part. So each group from the named one up to the mount counts where its files are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lmsupply_cli.files import is_folder
from lmsupply_cli.hardware.linux import parse_cpu_list, whole_number

MOUNT = Path("/sys/fs/cgroup")
PROC = Path("/proc/self")
_NO_LIMIT = 2**60  # v1 writes the largest page-aligned number for none
_V2 = ("", "unified")  # alone, or beside v1


class GroupMemory(NamedTuple):
    """One group's limit, and what is left below it once the kernel has given back what it can of the page cache."""

    limit_bytes: int
    available_bytes: int


class GroupLimits(NamedTuple):
    """The smallest of each kind; None if there is none. `cpus`: how many CPUs the group may run on."""

    limit_bytes: int | None = None
    available_bytes: int | None = None
    quota: float | None = None
    cpus: int | None = None


def read_group_limits(mount: Path = MOUNT, proc: Path = PROC) -> GroupLimits:
    """What the kernel applies to this process; never raises."""
    named = parse_groups(_text(proc / "cgroup"))
    memory = [found for group in _groups(mount, named, "memory") if (found := _memory(group))]
    quotas = [quota for group in _groups(mount, named, "cpu", "cpu,cpuacct") if (quota := _quota(group))]
    cpus = [count for group in _groups(mount, named, "cpuset") if (count := _cpus(group))]
    return GroupLimits(
        min((found.limit_bytes for found in memory), default=None),
        min((found.available_bytes for found in memory), default=None),
        min(quotas, default=None),
        min(cpus, default=None),
    )


def parse_groups(text: str) -> dict[str, str]:
    """Controller → path of the group, from /proc/self/cgroup; "" is v2."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            found |= dict.fromkeys(parts[1].split(","), parts[2])
    return found


def _groups(mount: Path, named: dict[str, str], *controllers: str) -> Iterator[Path]:
    """Folders of the groups that hold for the process: v2 first, then those of a controller of v1."""
    for folder in _V2:
        yield from _upwards(mount / folder, named.get("", "/"))
    for folder in controllers:
        yield from _upwards(mount / folder, named.get(controllers[0], "/"))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # outside of what this namespace sees
        parts = []
    if is_folder(root):
        for count in range(len(parts), -1, -1):
            yield root.joinpath(*parts[:count])


def _memory(group: Path) -> GroupMemory | None:
    limits = (_number(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes"))
    limit = min((found for found in limits if found is not None and found < _NO_LIMIT), default=None)
    if limit is None:
        return None
    used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
    held = max(0, used - _reclaimable(_text(group / "memory.stat")))
    return GroupMemory(limit, max(0, limit - held))


def _reclaimable(stat: str) -> int:
    """Bytes of the page cache, of the group and those below it; v1 counts them apart as `total_…`."""
    rows = (line.split() for line in stat.splitlines())
    values = {row[0]: whole_number(row[1]) or 0 for row in rows if len(row) == 2}
    names = ("inactive_file", "active_file")
    return sum(values.get(f"total_{name}", values.get(name, 0)) for name in names)


def _quota(group: Path) -> float | None:
    """CPUs' worth of time; None where unlimited."""
    words = _text(group / "cpu.max").split()
    if words:
        quota, period = map(whole_number, (*words, "100000")[:2])
    else:
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _cpus(group: Path) -> int | None:
    """None where the group names none: its parent's hold."""
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    return next((count for name in names if (count := parse_cpu_list(_text(group / name)))), None)


def _number(path: Path) -> int | None:
    """None for a missing file, and for words such as "max"."""
    return whole_number(_text(path).strip())


def _text(path: Path) -> str:
    """ "" where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""
