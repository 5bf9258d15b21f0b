"""A plain HTTP client: what a server really sends, with no library between."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from lmsupply_cli.errors import LmsupplyError, UsageError

_MOST_BYTES = 50_000_000


class ServerUnreachable(LmsupplyError):
    """No server answers at the URL."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `headers` by lowercase name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed. Raises ValueError."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The JSON values of a body of lines."""
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Server-sent events as (name, data); the data of `[DONE]` is that text."""
        found = []
        for block in self.body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n\n"):
            name, data = "", []
            for line in block.split("\n"):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
            if data:
                text = "\n".join(data)
                found.append((name, text if text == "[DONE]" else json.loads(text)))
        return found

    def short(self) -> str:
        """Status and the start of the body, for a report."""
        text = " ".join(self.body[:300].decode("utf-8", "replace").split())
        return f"{self.status} {text[:160]}".rstrip()


@dataclass(frozen=True, slots=True)
class Client:
    """Requests to one server. `model`: the name that bodies ask for; `key`: for servers that want one."""

    url: str
    model: str
    key: str = ""
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{self.url!r} is not the URL of a server", hint="such as http://127.0.0.1:11434")

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Raises ServerUnreachable."""
        return self._send("GET", path, None, headers)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        """`body`: JSON values, or bytes as they are. Raises ServerUnreachable."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._send("POST", path, data, headers)

    def abandon(self, path: str, body: Any) -> None:
        """Post, read the first bytes of the answer, and hang up. Raises ServerUnreachable."""
        for _ in self._exchange("POST", path, json.dumps(body).encode(), None, whole=False):
            return

    def _send(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str] | None) -> Reply:
        return next(self._exchange(method, path, data, headers, whole=True))

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str] | None, *, whole: bool
    ) -> Iterator[Reply]:
        connection = self._connection()
        sent = {"Content-Type": "application/json", "Connection": "close"} if data is not None else {}
        if self.key:
            sent |= {"Authorization": f"Bearer {self.key}", "x-api-key": self.key}
        try:
            connection.request(method, urlsplit(self.url).path.rstrip("/") + path, data, sent | dict(headers or {}))
            response = connection.getresponse()
            body = _read(response) if whole else response.read(1)
            yield Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        except (OSError, HTTPException) as error:
            raise ServerUnreachable(f"{self.url} does not answer: {error}", hint="start the server") from error
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=self.timeout_s)


def _read(response: HTTPResponse) -> bytes:
    body = response.read(_MOST_BYTES)
    if len(body) == _MOST_BYTES:
        raise OSError("the answer has no end")
    return body
