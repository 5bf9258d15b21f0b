"""The JSON that names MCP servers, in the form that Claude Desktop, Cursor and others share: `mcpServers`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import expanded, parse_json, read_text

_FORM = 'such as {"mcpServers": {"files": {"command": "npx", "args": ["-y", "server"]}}}'
_TYPES = ("stdio", "http", "streamable-http", "streamable_http", "streamableHttp")
_KEYS = frozenset({"command", "args", "env", "cwd", "url", "headers", "type", "transport", "disabled", "enabled"})
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A program that is started (`command`), or an address (`url`). `unused`: keys that have no effect here."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def leaves(self) -> bool:
        """Whether it is reached over a network, not on this machine."""
        return bool(self.url) and urlsplit(self.url).hostname not in ("localhost", "127.0.0.1", "::1")


def read_servers(configs: Iterable[str], environ: Mapping[str, str]) -> list[ServerConfig]:
    """The servers of several configs, each a file or JSON text, without those that are disabled. `${NAME}`,
    `${env:NAME}` and `${NAME:-default}` in values stand for variables. Raises UsageError."""
    found: list[ServerConfig] = []
    for config in configs:
        for server in _servers(config, environ):
            if server.name in [other.name for other in found]:
                raise UsageError(f"two MCP servers are named {server.name}", hint="rename one")
            found.append(server)
    return found


def _servers(config: str, environ: Mapping[str, str]) -> list[ServerConfig]:
    inline = config.lstrip().startswith("{")
    where = "--mcp" if inline else config
    text = config if inline else read_text(expanded(Path(config)), error=UsageError)
    whole = parse_json(text, where, error=UsageError)
    rows = whole.get("mcpServers", whole.get("servers")) if isinstance(whole, dict) else None
    if not isinstance(rows, dict):
        raise UsageError(f"{where} has no `mcpServers`", hint=_FORM)
    read = (_Row(f"{where}: the MCP server {name}", row, environ).server(name) for name, row in rows.items())
    return [server for server in read if server]


def _is_address(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:
        return False


class _Row:
    """One server of a config. `where`: for errors."""

    def __init__(self, where: str, row: Any, environ: Mapping[str, str]) -> None:
        if not isinstance(row, dict):
            raise UsageError(f"{where} must be an object", hint=_FORM)
        self._where, self._row, self._environ = where, row, environ

    def server(self, name: str) -> ServerConfig | None:
        """None for a server that is disabled. Raises UsageError."""
        row = self._row
        if row.get("disabled") is True or row.get("enabled") is False:
            return None
        kind = row.get("type", row.get("transport"))
        if kind is not None and kind not in _TYPES:
            raise UsageError(f"{self._where} has the type {kind!r}, which is not supported", hint="types: stdio, http")
        command, url = self._text("command"), self._text("url")
        if bool(command) == bool(url):
            raise UsageError(f"{self._where} needs a `command` or a `url`, and not both", hint=_FORM)
        if url and not _is_address(url):
            raise UsageError(
                f"{self._where}: {url!r} is not a valid address", hint="it begins with http:// or https://"
            )
        return ServerConfig(
            name,
            command,
            self._texts("args"),
            self._mapping("env"),
            self._text("cwd"),
            url,
            self._mapping("headers"),
            tuple(sorted(set(row) - _KEYS)),
        )

    def _text(self, key: str) -> str:
        return self._expanded(self._row.get(key) or "", key)

    def _texts(self, key: str) -> tuple[str, ...]:
        values = self._row.get(key) or []
        if not isinstance(values, list):
            raise UsageError(f"{self._where}: `{key}` must be a list of strings")
        return tuple(self._expanded(value, key) for value in values)

    def _mapping(self, key: str) -> dict[str, str]:
        values = self._row.get(key) or {}
        if not isinstance(values, dict):
            raise UsageError(f"{self._where}: `{key}` must be an object with string values")
        return {name: self._expanded(value, key) for name, value in values.items()}

    def _expanded(self, value: Any, key: str) -> str:
        """With its variables. Raises UsageError for one that is not set."""
        if not isinstance(value, str) or "\0" in value:
            raise UsageError(f"{self._where}: `{key}` must be text")

        def variable(found: re.Match[str]) -> str:
            text = self._environ.get(found[1], found[2])
            if text is None:
                raise UsageError(f"{self._where}: the variable {found[1]} is not set", hint=f"set it: it is in `{key}`")
            return text

        return _VARIABLE.sub(variable, value)
