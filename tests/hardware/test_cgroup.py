"""The limits of control groups, from trees of both versions as containers show them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmsupply_cli.hardware import cgroup, host
from lmsupply_cli.hardware.cgroup import MemoryGroup, cpu_quota, memory_groups

MB = 1_000_000
HALF_CACHE = f"anon 1\ninactive_file {40 * MB}\nactive_file {10 * MB}\nslab 7\n"


def tree(root: Path, files: dict[str, str], membership: str = "0::/\n") -> tuple[Path, Path]:
    for name, content in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (root / "membership").write_text(membership)
    return root / "cgroup", root / "membership"


@pytest.mark.parametrize(
    ("files", "membership", "groups", "quota"),
    [
        ({}, "0::/\n", [], None),
        ({"cpu.max": "max 100000", "memory.max": "max"}, "0::/\n", [], None),
        ({"cpu.max": "nonsense", "memory.max": "x"}, "0::/\n", [], None),
        (
            {"cpu.max": "150000 100000", "memory.max": f"{200 * MB}", "memory.current": f"{90 * MB}", "memory.stat": HALF_CACHE},
            "0::/\n",
            [MemoryGroup(200 * MB, 40 * MB)],
            1.5,
        ),
        (  # the group's own limit is the larger one; a parent's and memory.high count too
            {
                "a/b/memory.max": f"{800 * MB}",
                "a/b/memory.high": f"{700 * MB}",
                "a/b/memory.current": f"{100 * MB}",
                "a/memory.max": f"{500 * MB}",
                "a/memory.current": f"{450 * MB}",
                "a/cpu.max": "50000 100000",
                "a/b/cpu.max": "400000 100000",
            },
            "0::/a/b\n",
            [MemoryGroup(700 * MB, 100 * MB), MemoryGroup(500 * MB, 450 * MB)],
            0.5,
        ),
        (  # version 1, seen from outside of the container: the path of the host is not there
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "400000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": f"{300 * MB}",
                "memory/memory.usage_in_bytes": f"{250 * MB}",
                "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {150 * MB}\ntotal_active_file {50 * MB}\n",
            },
            "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
            [MemoryGroup(300 * MB, 50 * MB)],
            4.0,
        ),
        (
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000",
             "memory/x/memory.limit_in_bytes": "9223372036854771712", "memory/memory.limit_in_bytes": f"{9 * MB}"},
            "5:memory:/x\n3:cpu:/x\n",
            [MemoryGroup(9 * MB, 0)],
            None,
        ),
        (  # both versions side by side
            {"unified/y/cpu.max": "100000 100000", "memory/y/memory.limit_in_bytes": f"{9 * MB}"},
            "5:memory:/y\n0::/y\n",
            [MemoryGroup(9 * MB, 0)],
            1.0,
        ),
        ({"memory.max": f"{9 * MB}", "cpu.max": "100000 0"}, "", [MemoryGroup(9 * MB, 0)], None),
    ],
)  # fmt: skip
def test_every_group_up_to_the_root_counts(
    tmp_path: Path, files: dict[str, str], membership: str, groups: list[MemoryGroup], quota: float | None
) -> None:
    found = tree(tmp_path, files, membership)
    assert memory_groups(*found) == groups
    assert cpu_quota(*found) == quota


def test_file_cache_counts_as_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"memory.max": f"{200 * MB}", "memory.current": f"{190 * MB}", "memory.stat": f"inactive_file {180 * MB}\n"}
    groups = memory_groups(*tree(tmp_path, files))
    monkeypatch.setattr(cgroup, "memory_groups", lambda: groups)
    memory = host.detect_memory()
    assert (memory.total_bytes, memory.limit_bytes) == (200 * MB, 200 * MB)
    assert memory.available_bytes == 190 * MB


def test_a_machine_that_tells_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def nothing() -> None:
        raise OSError(2, "No such file or directory", "/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", nothing)
    monkeypatch.setattr(psutil, "swap_memory", nothing)
    memory = host.detect_memory()
    assert memory.total_bytes >= memory.available_bytes > 0
    assert memory.swap_bytes == 0


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_the_limits_of_a_shell_count() -> None:
    program = (
        "from lmsupply_cli.hardware.host import detect_memory as d; m = d(); print(m.limit_bytes, m.available_bytes)"
    )
    shell = f"ulimit -v 2000000; exec {sys.executable} -c '{program}'"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    limit, available = map(int, done.stdout.split())
    assert limit == 2_000_000 * 1024
    assert 0 < available < limit


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs namespaces of Linux")
def test_a_container_whose_memory_is_file_cache_runs_a_model(tmp_path: Path) -> None:
    """A folder in the place of /sys/fs/cgroup, in a mount namespace of its own."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("namespaces are not allowed here")
    files = {"memory.max": f"{200 * MB}", "memory.current": f"{190 * MB}", "memory.stat": f"inactive_file {180 * MB}\n"}
    root, _ = tree(tmp_path, files)
    script = f"mount --bind {root} /sys/fs/cgroup && exec {sys.executable} -m lmsupply_cli run -q -m guide thanks"
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "You are welcome!\n"), done.stderr
