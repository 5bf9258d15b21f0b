"""One holder at a time, in threads and processes, also where the file system grants every lock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lmsupply_cli.locks import Busy, is_held, locked


@pytest.fixture(params=["working", "granted to everybody"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "working":
        monkeypatch.setattr("filelock._native._unix.lock_fd_nonblocking", lambda fd: True)


@pytest.mark.usefixtures("locks")
def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    inside, most = 0, 0
    start = threading.Barrier(4)

    def work() -> None:
        nonlocal inside, most
        start.wait()
        for _ in range(20):
            with locked(path, waiting=lambda: None):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 1
    assert not is_held(path)
    assert not list(tmp_path.glob("*.held")), "no marker stays"


@pytest.mark.usefixtures("locks")
def test_a_lock_dies_with_its_process(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "a.lock"
    off = "granted" in request.node.name
    program = _HOLD.format(path=str(path), off=off)
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert is_held(path)
    with pytest.raises(Busy), locked(path):
        pass
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped
    with locked(path):
        assert is_held(path)
    holder.wait()
    holder.stdout.close()


_HOLD = """
import time
from pathlib import Path
if {off}:
    import filelock._native._unix
    filelock._native._unix.lock_fd_nonblocking = lambda fd: True
from lmsupply_cli.locks import locked
with locked(Path({path!r})):
    print("held", flush=True)
    time.sleep(60)
"""
