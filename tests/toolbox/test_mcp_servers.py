"""Servers of tools over both transports: one that is made with the official library, and some that misbehave."""

from __future__ import annotations

import _thread
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp.client.client")

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import ToolCall
from lmsupply_cli.toolbox.config import ServerConfig
from lmsupply_cli.toolbox.mcp_client import McpServer, McpThread, close_servers
from lmsupply_cli.toolbox.toolbox import Toolbox

SUPPORT = Path(__file__).parent.parent / "support"
GOOD, HOSTILE = str(SUPPORT / "mcp_server.py"), str(SUPPORT / "hostile_mcp.py")
Open = Callable[..., McpServer]


@pytest.fixture
def start() -> Iterator[Open]:
    thread, servers = McpThread(), []

    def started(*arguments: str, limit_s: float = 30, **more: Any) -> McpServer:
        given = more or {"command": sys.executable, "args": arguments, "env": {"TOKEN": "t1"}}
        server = McpServer(ServerConfig("things", **given), thread, connect_s=limit_s, call_s=limit_s)
        servers.append(server)
        server.start()
        return server

    yield started
    close_servers(servers, thread)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with subprocess.Popen([sys.executable, GOOD, "http"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp"
        process.terminate()


def waits_until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_calls_and_results(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the user")
    server = start(GOOD)
    assert [tool.name for tool in server.tools()][:2] == ["add", "environment"]
    assert server.call("add", {"a": 1, "b": 2}) == "3"
    assert server.call("environment", {"name": "TOKEN"}) == "t1"
    assert server.call("environment", {"name": "SECRET"}) == "not set"
    assert server.call("picture", {}) == "[image: image/png, 3.0 kB, not shown]"
    assert server.call("fail", {}).startswith("error: ")
    assert server.call("add", {"a": "x"}).startswith("error: ")
    assert server.call("no such tool", {}).startswith("error: ")
    assert len(server.call("long", {"characters": 3_000_000})) == 3_000_000


def test_over_http(start: Open, address: str) -> None:
    server = start(url=address, headers={"Authorization": "Bearer x"})
    box = Toolbox(servers=[server])
    assert list(box.open()) == []
    tool = box.named("add")[0]
    assert box.run(tool, ToolCall("1", "add", '{"a": 1, "b": 2}')) == "3"
    assert server.call("fail", {}).startswith("error: ")


def test_a_server_that_ended_is_started_again(start: Open) -> None:
    server = start(GOOD)
    box = Toolbox(servers=[server])
    assert list(box.open(allowed=["add"])) == []
    assert server.call("die", {}) == "error: the MCP server things has ended; it wrote: last words"
    assert server.call("add", {"a": 1, "b": 2}) == "3"
    assert server.changed
    assert list(box.refresh()) == []  # it offers the same
    assert not box.named("add")[0].asks


@pytest.mark.parametrize("kind", ["new", "old"])
def test_tools_that_change(kind: str, start: Open) -> None:
    """By both ways in which the protocol tells of it."""
    server = start(GOOD) if kind == "new" else start(HOSTILE, "changing")
    box = Toolbox(servers=[server])
    assert list(box.open()) == []
    server.call("grow" if kind == "new" else "add", {})
    waits_until(lambda: server.changed)
    (notice,) = box.refresh()
    expected = {
        "new": "1 tool new (fresh); 1 tool gone (long)",
        "old": "1 tool new (another); 1 tool changed (add); 1 tool gone (gone)",
    }
    assert notice.text == f"the MCP server things changed its tools: {expected[kind]}"


def test_ctrl_c_cancels_a_call(start: Open, tmp_path: Path) -> None:
    server = start(GOOD)
    marker = tmp_path / "waits"

    def interrupt() -> None:
        waits_until(marker.exists)
        _thread.interrupt_main()

    server.tools()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        server.call("wait", {"path": str(marker)})


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("dead", "has ended; it wrote: no such database\\x1b[31m"),
        ("silent", "did not answer within 1 s"),
        ("garbage", "did not answer within 1 s; it writes something that is not an MCP message"),
        ("broken", "sends what the protocol does not allow: tools.0.inputSchema: Field required"),
    ],
)
def test_a_server_that_cannot_be_used(what: str, said: str, start: Open) -> None:
    patient = what not in ("silent", "garbage")
    server = start(HOSTILE, what, limit_s=30 if patient else 1)
    with pytest.raises(LmsupplyError) as raised:
        server.tools()
    assert raised.value.message == said


@pytest.mark.parametrize(
    ("what", "result"),
    [
        ("refusing", "error: the MCP server things answers with an error: no such method\\x1b[31m"),
        ("tearing", "error: the MCP server things has ended; it writes something that is not an MCP message"),
        (
            "odd",
            "error: the MCP server things sends what the protocol does not allow: content.0.TextContent.text: Field required",
        ),
        ("chatty", "fine"),
        ("shouting", "fine"),
        ("endless", "fine"),
    ],
)
def test_a_server_that_misbehaves_in_a_call(what: str, result: str, start: Open) -> None:
    server = start(HOSTILE, what)
    assert server.tools()
    assert server.call("add", {"a": 1}) == result


def test_odd_tools(start: Open) -> None:
    box = Toolbox(servers=[start(HOSTILE, "names")])
    assert list(box.open()) == []
    assert [tool.name for tool in box.tools] == ["a_b_c", f"{'x' * 55}_09ecb6eb", "__31mred", "add", "tool", "auto"]
    box = Toolbox(servers=[start(HOSTILE, "many")])
    assert len(list(box.open())) == 2
    assert len(box.tools) == 1000


class Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/big":
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            with suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"x" * 1_000_000)
            return
        self.send_response(int(self.path[1:]))
        self.send_header("content-type", "text/html")
        self.send_header("location", "http://example.invalid/")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"no")

    def log_message(self, *_: object) -> None:
        pass


def test_what_a_web_server_may_answer(start: Open) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        for path, said in (
            ("401", "answers with HTTP 401 (set its token in `headers`)"),
            ("500", "answers with HTTP 500"),
            ("200", "answers with an error: Unexpected content type: text/html"),
            ("307", "answers with an error: Redirect to http://example.invalid/ not followed"),
            ("big", "cannot be reached: the response is longer than 20.0 MB"),
        ):
            with pytest.raises(LmsupplyError) as raised:
                start(url=f"http://127.0.0.1:{web.server_port}/{path}").tools()
            assert raised.value.message.startswith(said)
        web.shutdown()


def test_what_cannot_be_reached(start: Open, address: str) -> None:
    for config, said in (
        ({"command": "no-such-program-here"}, "cannot be started: no-such-program-here: No such file or directory"),
        ({"command": sys.executable, "cwd": "/no/such/folder"}, "cannot be started: /no/such/folder: "),
        ({"url": "http://127.0.0.1:9/mcp"}, "cannot be reached: "),
        ({"url": address.replace("/mcp", "/other")}, "answers with an error: Not Found"),
    ):
        with pytest.raises(LmsupplyError) as raised:
            start(**config).tools()
        assert raised.value.message.startswith(said), json.dumps(config)
