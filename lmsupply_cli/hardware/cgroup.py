"""The limits that control groups set on this process, in version 1, version 2, or both side by side.

Every group from the process's own up to the root counts, and the smallest limit is the one that the kernel applies.
Formats: cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.errors import FileError
from lmsupply_cli.files import read_text

ROOT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED = 2**60  # version 1 writes a number of this order for no limit
_FILE_CACHE = ("inactive_file", "active_file")
_SMALL_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """Bytes. `used_bytes` leaves out the file cache, which the kernel gives back before it refuses anything."""

    limit_bytes: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)


def memory_groups(root: Path = ROOT, membership: Path = MEMBERSHIP) -> list[MemoryGroup]:
    """Each group with a limit on memory, soft ones (memory.high) included."""
    found = []
    for folder in _folders("memory", root, membership):
        limits = [_number(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        known = [limit for limit in limits if limit is not None and limit < _UNLIMITED]
        if known:
            found.append(MemoryGroup(min(known), _used_bytes(folder)))
    return found


def cpu_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """CPUs that the process may use at most, None where there is no limit."""
    quotas = [quota for folder in _folders("cpu", root, membership) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _folders(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """The folders of the process's groups, each group with its parents. In a container the group's path may be that of
    the host, of which only the root is to be seen: so the root always counts."""
    seen = set()
    for line in (_text(membership) or "0::/").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            bases = [root, root / "unified"]
        elif controller in names.split(","):
            bases = [root / names, root / controller]
        else:
            continue
        for base in bases:
            group = base / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder not in seen and (folder == base or base in folder.parents):
                    seen.add(folder)
                    yield folder
    for base in (root, root / controller):  # where the membership says nothing of it
        if base not in seen:
            yield base


def _used_bytes(folder: Path) -> int:
    used = _number(folder / "memory.current")
    used = _number(folder / "memory.usage_in_bytes") if used is None else used
    rows = (line.split() for line in _text(folder / "memory.stat").splitlines())
    stat = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
    cache = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in _FILE_CACHE)
    return max(0, (used or 0) - cache)


def _quota(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _text(path: Path) -> str:
    try:
        return read_text(path, limit_bytes=_SMALL_BYTES)
    except FileError:
        return ""
