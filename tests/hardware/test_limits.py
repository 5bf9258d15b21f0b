"""What the surroundings allow: control groups of every layout, limits of the process, and systems that tell nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmsupply_cli.hardware import host
from lmsupply_cli.hardware.cgroup import GroupLimits, parse_groups, read_group_limits
from lmsupply_cli.hardware.host import Bound, bounded, grant_threads, most_threads, process_bounds
from lmsupply_cli.hardware.linux import physical_cores
from lmsupply_cli.hardware.profile import Cpu, Memory

MB = 1_000_000
V2 = "0::/user/job\n"
V1 = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n1:name=systemd:/docker/abc\n"
HYBRID = "4:memory:/job\n3:cpuset:/\n1:cpu:/job\n0::/job\n"
STAT = "anon 10000000\nfile 185000000\ninactive_file 170000000\nactive_file 10000000\n"


def tree(folder: Path, groups: str, files: dict[str, str]) -> GroupLimits:
    (folder / "proc").mkdir(exist_ok=True)
    (folder / "proc" / "cgroup").write_text(groups)
    for name, content in files.items():
        path = folder / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return read_group_limits(folder / "mount", folder / "proc")


@pytest.mark.parametrize(
    ("groups", "files", "quota", "limit"),
    [
        ("", {}, None, None),
        (V2, {"cpu.max": "150000 100000", "memory.max": "2147483648"}, 1.5, 2**31),
        (V2, {"cpu.max": "50000"}, 0.5, None),
        (V2, {"cpu.max": "max 100000", "memory.max": "max", "memory.high": "max"}, None, None),
        (V2, {"user/job/memory.high": "500000000", "user/job/memory.max": "700000000"}, None, 500 * MB),
        (
            V2,
            {
                "user/job/memory.max": "800000000",
                "user/memory.max": "600000000",
                "memory.max": "max",
                "user/job/cpu.max": "max 100000",
                "user/cpu.max": "200000 100000",
                "cpu.max": "300000 100000",
            },
            2.0,
            600 * MB,
        ),
        (
            V1,
            {
                "cpu/cpu.cfs_quota_us": "400000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "1073741824",
            },
            4.0,
            2**30,
        ),
        (
            V1,
            {
                "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "-1",
                "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/docker/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
                "memory/docker/abc/memory.limit_in_bytes": "9223372036854771712",
                "memory/docker/memory.limit_in_bytes": "300000000",
            },
            0.5,
            300 * MB,
        ),
        (
            HYBRID,
            {
                "memory/job/memory.limit_in_bytes": "400000000",
                "unified/job/memory.max": "300000000",
                "cpu/job/cpu.cfs_quota_us": "200000",
                "cpu/job/cpu.cfs_period_us": "100000",
            },
            2.0,
            300 * MB,
        ),
        ("0::/../other\n", {"memory.max": "300000000", "other/memory.max": "1000000"}, None, 300 * MB),
        (V2, {"cpu.max": "nonsense", "memory.max": "x"}, None, None),
        (V2, {"cpu.max": "1 0", "memory.max": "9" * 5000}, None, None),
        ("no groups at all\n::\n", {"memory.max": "300000000"}, None, 300 * MB),
    ],
)
def test_the_smallest_limit_from_the_own_group_upwards_holds(
    tmp_path: Path, groups: str, files: dict[str, str], quota: float | None, limit: int | None
) -> None:
    found = tree(tmp_path, groups, files)
    assert (found.quota, found.limit_bytes) == (quota, limit)


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        (
            V2,
            {"user/job/memory.max": "200000000", "user/job/memory.current": "190000000", "user/job/memory.stat": STAT},
        ),
        (V2, {"memory.max": "200000000", "memory.current": "190000000", "memory.stat": STAT}),
        (
            V1,
            {
                "memory/docker/abc/memory.limit_in_bytes": "200000000",
                "memory/docker/abc/memory.usage_in_bytes": "190000000",
                "memory/docker/abc/memory.stat": "inactive_file 5\nactive_file 5\n"
                "total_inactive_file 170000000\ntotal_active_file 10000000",
            },
        ),
    ],
)
def test_page_cache_that_the_kernel_gives_back_is_not_used_memory(
    tmp_path: Path, groups: str, files: dict[str, str]
) -> None:
    assert tree(tmp_path, groups, files).available_bytes == 190 * MB


def test_what_a_parent_has_left_may_be_less_than_what_the_group_has(tmp_path: Path) -> None:
    files = {
        "user/job/memory.max": "200000000",
        "user/job/memory.current": "50000000",
        "user/memory.max": "900000000",
        "user/memory.current": "870000000",
    }
    found = tree(tmp_path, V2, files)
    assert (found.limit_bytes, found.available_bytes) == (200 * MB, 30 * MB)


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        (V2, {"user/job/cpuset.cpus.effective": "0-1,4", "user/cpuset.cpus.effective": "0-7"}, 3),
        (V2, {"user/job/cpuset.cpus.effective": "", "user/cpuset.cpus.effective": "0-7"}, 8),
        (V1, {"cpuset/docker/abc/cpuset.cpus": "2"}, 1),
        (V1, {"cpuset/docker/abc/cpuset.cpus": "x-y,7-3"}, None),
    ],
)
def test_cpus_of_a_cpuset(tmp_path: Path, groups: str, files: dict[str, str], cpus: int | None) -> None:
    assert tree(tmp_path, groups, files).cpus == cpus


def test_groups_of_every_version() -> None:
    assert parse_groups(V1)["cpuacct"] == "/docker/abc"
    assert parse_groups(HYBRID)[""] == "/job"


def test_every_limit_counts_and_the_smallest_is_named() -> None:
    machine = Memory(16_000 * MB, 8_000 * MB, 0, None)
    container, process = Bound("the container", 2_000 * MB, 1_500 * MB), Bound("ulimit -v", 4_000 * MB, 1_000 * MB)
    assert bounded(machine, []) == machine
    assert bounded(machine, [Bound("the container", 64_000 * MB, 64_000 * MB)]) == machine
    assert bounded(machine, [container, process]) == Memory(2_000 * MB, 1_000 * MB, 0, 2_000 * MB, "the container")
    assert bounded(machine, [process]).limited_by == "ulimit -v"
    assert bounded(Memory(0, 0, 0, None), [process]).available_bytes == 1_000 * MB
    assert process_bounds({"ulimit -v": 100, "ulimit -d": 100}, {"VmSize": 30, "VmData": 170}) == [
        Bound("ulimit -v", 100, 70), Bound("ulimit -d", 100, 0),
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to them")
def test_a_limit_of_the_shell_is_seen() -> None:
    script = 'ulimit -v 6000000; exec "$0" -m lmsupply_cli hw'
    done = subprocess.run(["bash", "-c", script, sys.executable], capture_output=True, text=True, check=True)
    assert "limited by ulimit -v" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_memory_as_proc_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meminfo = "MemTotal:  16000 kB\nMemFree:  1000 kB\nMemAvailable:  {} kB\nSwapTotal:  500 kB\nHugePages_Total:  0\n"
    monkeypatch.setattr(host, "_PROC", tmp_path)
    monkeypatch.setattr(host, "read_group_limits", GroupLimits)
    monkeypatch.setattr(host, "_resource_limits", dict)
    for told, available in (("9000", 9_000), ("99000", 16_000)):  # some containers tell the host's
        (tmp_path / "meminfo").write_text(meminfo.format(told))
        assert host.detect_memory() == Memory(16_000 * 1024, available * 1024, 500 * 1024, None)


def test_a_core_with_two_threads_counts_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(siblings + "\n")
    assert physical_cores(tmp_path) == 2
    assert physical_cores(tmp_path / "none") == 0


def test_a_system_that_tells_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def fails(*_: object, **__: object) -> None:
        raise FileNotFoundError("/proc")

    for name in ("virtual_memory", "swap_memory", "cpu_count", "Process"):
        monkeypatch.setattr(psutil, name, fails)
    monkeypatch.setattr(host, "_cpu_details", fails)
    monkeypatch.setattr(host, "_allowed", lambda: None)
    monkeypatch.setattr(host, "_PROC", Path("/no/such/folder"))
    monkeypatch.setattr(host.linux, "physical_cores", fails)
    assert host.detect_cpu().usable_threads >= 1
    assert host.detect_memory().total_bytes > 0, "sysconf still tells"
    assert host.memory_used_bytes()[0] > 0, "getrusage still tells"
    monkeypatch.setattr(host, "_memory_of_sysconf", fails)
    monkeypatch.setattr(host, "read_group_limits", GroupLimits)
    monkeypatch.setattr(host, "_resource_limits", dict)
    assert host.detect_memory() == Memory(0, 0, 0, None)


def test_where_the_memory_is_not_known_only_the_users_limit_is_planned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmsupply_cli.memory import budget

    monkeypatch.setattr(budget, "detect_memory", lambda: Memory(0, 0, 0, None))
    assert budget.planning_bytes(None) is None
    assert budget.planning_bytes(500 * MB) == 500 * MB


@pytest.mark.parametrize(
    ("logical", "allowed", "quota", "most"), [(8, None, None, 8), (8, 2, None, 2), (8, 4, 1.5, 2), (8, 8, 0.2, 1)]
)
def test_how_many_threads_can_run_at_once(logical: int, allowed: int | None, quota: float | None, most: int) -> None:
    assert most_threads(logical, allowed, quota) == most


def test_more_threads_than_can_run_are_cut_with_a_note() -> None:
    cpu = Cpu("x", "x86_64", 4, 8, None, (), None, 4, 8)
    assert grant_threads(None, cpu) == (4, "")
    assert grant_threads(8, cpu) == (8, "")
    threads, note = grant_threads(9, cpu)
    assert threads == 8
    assert note.startswith("9 threads were requested, but only 8 can run at once")


def test_the_note_of_too_many_threads_reaches_the_user() -> None:
    from support.cli import lmsupply

    result = lmsupply("run", "thanks", "--threads", "1024", "--json")
    assert result.code == 0
    assert "note: 1024 threads were requested, but only" in result.err
    assert "threads" in [notice["code"] for notice in result.json["notices"]]


def test_a_container_whose_memory_is_file_cache_runs_a_model(tmp_path: Path) -> None:
    """A folder in the place of /sys/fs/cgroup, in a mount namespace of its own."""
    unshare = ["unshare", "-m"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mount namespaces are unavailable here")
    for name, text in (
        ("memory.max", "200000000"),
        ("memory.current", "190000000"),
        ("memory.stat", "inactive_file 180000000\n"),
    ):
        (tmp_path / name).write_text(text)
    script = f"mount --bind {tmp_path} /sys/fs/cgroup && exec {sys.executable} -m lmsupply_cli run -q -m guide thanks"
    done = subprocess.run([*unshare, "bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "You are welcome!\n"), done.stderr
