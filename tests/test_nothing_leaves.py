"""Nothing is sent anywhere, and nothing is written outside lmsupply's own folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "lmsupply_cli", "run", "-q", "How do I download a model?"]


def environment(home: Path) -> dict[str, str]:
    """A user without any folder: what is created, the run created."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return kept | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "LMSUPPLY_HOME": str(home / "lmsupply")}


def test_a_run_creates_no_file(tmp_path: Path) -> None:
    home = tmp_path / "user"
    home.mkdir()
    done = subprocess.run(
        RUN, env=environment(home), cwd=home, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert done.stdout.startswith("Run `lmsupply pull")
    assert [path for path in home.rglob("*") if "lmsupply" not in path.parts] == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_no_system_call_of_a_run_tries_to_leave(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    traced = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=%network,openat,creat,mkdir,mkdirat,rename,renameat2",
        "-o",
        str(trace),
    ]
    subprocess.run(
        [*traced, *RUN],
        env=environment(tmp_path),
        cwd=tmp_path,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    calls = trace.read_text(errors="replace")
    assert "openat(" in calls
    assert not re.findall(r"socket\(AF_INET6?\b.*", calls)
    assert not re.findall(r"(?:connect|sendto|sendmsg)\(.*", calls)
    written = re.findall(r'openat\([^"]*"([^"]+)", [^)]*O_CREAT', calls)
    assert [path for path in written if not path.startswith(("/dev/", "/proc/")) and "/state/runs/" not in path] == []


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs to cut the network",
)
def test_everything_but_pull_works_with_the_network_cut(tmp_path: Path) -> None:
    for command in (RUN[3:], ["models"], ["hw"], ["--help"], ["completion", "zsh"]):
        cut = ["unshare", "-rn", sys.executable, "-m", "lmsupply_cli", *command]
        done = subprocess.run(
            cut, env=environment(tmp_path), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
    pull = ["unshare", "-rn", sys.executable, "-m", "lmsupply_cli", "pull", "phi-3.5"]
    done = subprocess.run(pull, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot reach huggingface.co")
