"""Records of running servers: a server that was killed is none."""

from __future__ import annotations

import json
from pathlib import Path

from lmsupply_cli.paths import state_dir
from lmsupply_cli.serving.running import RunningServer

SERVER = RunningServer("http://127.0.0.1:11535", 4711, 1000.0, "0.1.0", False, "/store")


def records() -> list[Path]:
    return sorted((state_dir() / "servers").glob("*.json"))


def test_a_server_is_found_while_it_runs() -> None:
    assert RunningServer.find() is None
    with SERVER.recorded():
        assert RunningServer.find() == SERVER
    assert RunningServer.find() is None
    assert records() == []


def test_a_record_that_nobody_holds_is_removed() -> None:
    folder = state_dir() / "servers"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 1}))
    assert RunningServer.all() == []
    assert records() == []


def test_a_record_that_cannot_be_read_is_no_server() -> None:
    with SERVER.recorded():
        records()[0].write_text('{"url": 1, "pid": "x"}')
        assert RunningServer.all() == []
        records()[0].write_text("[]")
        assert RunningServer.all() == []


def test_only_the_owner_can_read_it_and_no_key_is_in_it() -> None:
    with SERVER.recorded():
        path = records()[0]
        assert path.stat().st_mode & 0o077 == 0
        assert set(json.loads(path.read_text())) == {"url", "pid", "started", "version", "needs_key", "root", "token"}
