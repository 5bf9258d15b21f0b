"""The JSON that names MCP servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli.errors import UsageError
from lmsupply_cli.toolbox.config import ServerConfig, read_servers

ENVIRON = {"TOKEN": "t1", "HOME": "/home/me"}


def read(*servers: dict[str, Any], key: str = "mcpServers") -> list[ServerConfig]:
    return read_servers([json.dumps({key: server}) for server in servers], ENVIRON)


def test_programs_and_addresses(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    row = {"command": "npx", "args": ["-y", "x"], "env": {"A": "b"}, "cwd": "/tmp", "type": "stdio", "autoApprove": []}
    path.write_text(json.dumps({"mcpServers": {"files": row, "off": {"disabled": True, "command": "x"}}}))
    web = {
        "web": {"url": "https://example.com/mcp", "headers": {"Authorization": "Bearer x"}, "type": "streamable-http"}
    }
    found = read_servers([str(path), json.dumps({"servers": web})], ENVIRON)
    assert found == [
        ServerConfig("files", "npx", ("-y", "x"), {"A": "b"}, "/tmp", unused=("autoApprove",)),
        ServerConfig("web", url="https://example.com/mcp", headers={"Authorization": "Bearer x"}),
    ]


def test_variables() -> None:
    row = {
        "command": "${HOME}/x",
        "args": ["${env:TOKEN}", "${NO:-default}", "$TOKEN", "${NO:-}"],
        "env": {"K": "${TOKEN}"},
    }
    (server,) = read({"a": row})
    assert (server.command, server.args) == ("/home/me/x", ("t1", "default", "$TOKEN", ""))
    assert server.env == {"K": "t1"}
    with pytest.raises(UsageError, match="the MCP server a: the variable NO is not set"):
        read({"a": {"url": "https://x", "headers": {"A": "${NO}"}}})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "must be an object"),
        ({}, "needs a `command` or a `url`"),
        ({"command": "x", "url": "https://x"}, "needs a `command` or a `url`"),
        ({"command": 3}, "`command` must be text"),
        ({"command": "a\\u0000b"}, "`command` must be text"),
        ({"command": "x", "args": "y"}, "`args` must be a list"),
        ({"command": "x", "args": [1]}, "`args` must be text"),
        ({"command": "x", "env": ["A=b"]}, "`env` must be an object"),
        ({"command": "x", "env": {"A": 1}}, "`env` must be text"),
        ({"url": "file:///etc/passwd"}, "is not a valid address"),
        ({"url": "http://[::1"}, "is not a valid address"),
        ({"url": "https:///x"}, "is not a valid address"),
        ({"url": "x", "type": "sse"}, "has the type 'sse', which is not supported"),
    ],
)
def test_what_is_wrong_is_named(row: Any, message: str) -> None:
    if isinstance(row, dict) and isinstance(row.get("command"), str):
        row["command"] = row["command"].replace("\\u0000", "\0")
    with pytest.raises(UsageError, match=f"a.*{message}"):
        read({"a": row})


def test_which_servers_are_on_this_machine() -> None:
    urls = {
        "http://localhost:1/x": False,
        "http://127.0.0.1": False,
        "http://[::1]:3/": False,
        "https://example.com": True,
    }
    for url, leaves in urls.items():
        assert ServerConfig("a", url=url).leaves is leaves
    assert not ServerConfig("a", "npx").leaves


def test_a_config_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two MCP servers are named a"):
        read({"a": {"command": "x"}}, {"a": {"command": "x"}})
    for text in ('{"files": {"command": "x"}}', '{"mcpServers": []}', "{"):
        with pytest.raises(UsageError):
            read_servers([text], ENVIRON)
    (tmp_path / "list.json").write_text("[]")
    for path in (tmp_path / "list.json", tmp_path / "absent.json", tmp_path):
        with pytest.raises(UsageError, match=path.name):
            read_servers([str(path)], ENVIRON)
