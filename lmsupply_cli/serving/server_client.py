"""Asks a running server, with what Python brings: the commands that use it start as fast as without one."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from lmsupply_cli.errors import LmsupplyError, ServerGone
from lmsupply_cli.serving import wire
from lmsupply_cli.serving.running import RunningServer

CONNECT_S = 5.0
_POLL_S = 0.05  # between looks for Ctrl-C
_NO_SERVER = "restart it; run and chat take --no-server to do without it"


class ServerClient:
    """The endpoints of `server.own`."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server

    def call(self, path: str, timeout_s: float | None = None, **values: Any) -> dict[str, Any]:
        """What it answers. Raises ServerGone, and the server's error."""
        connection = self._connect()
        try:
            if connection.sock:
                connection.sock.settimeout(timeout_s)
            return _read(self._send(connection, path, values))
        except TimeoutError as error:
            raise self._silent() from error
        except (OSError, HTTPException, ValueError) as error:
            raise self._gone() from error
        finally:
            connection.close()

    def lines(self, path: str, **values: Any) -> Lines:
        """A stream of objects. Raises ServerGone."""
        return Lines(self, self._connect(), path, values)

    def _connect(self) -> HTTPConnection:
        place = urlsplit(self.server.url)
        connection = HTTPConnection(place.hostname or "", place.port or 80, timeout=CONNECT_S)
        try:
            connection.connect()
        except OSError as error:
            raise self._silent() from error
        return connection

    def _send(self, connection: HTTPConnection, path: str, values: Mapping[str, Any]) -> HTTPResponse:
        headers = {"Content-Type": "application/json", wire.TOKEN: self.server.token}
        connection.request("POST", path, json.dumps(values).encode(), headers)
        return connection.getresponse()

    def _silent(self) -> ServerGone:
        return ServerGone(f"the server at {self.server.url} does not answer", hint=_NO_SERVER)

    def _gone(self) -> ServerGone:
        return ServerGone(f"the server at {self.server.url} ended while it answered", hint=_NO_SERVER)


def _read(response: HTTPResponse) -> dict[str, Any]:
    """Raises the error that it holds."""
    found = json.loads(response.read())
    if response.status != 200 or not isinstance(found, dict):
        raise wire.error_of(found.get("error") if isinstance(found, dict) else None)
    return found


class Lines:
    """Objects that come line by line, read in a thread: whoever waits for them may be interrupted at any time. Close it."""

    def __init__(self, client: ServerClient, connection: HTTPConnection, path: str, values: Mapping[str, Any]) -> None:
        self._client, self._connection = client, connection
        self._socket: socket.socket = connection.sock
        self._socket.settimeout(None)
        self._came: SimpleQueue[dict[str, Any] | Exception] = SimpleQueue()
        threading.Thread(target=self._run, args=(path, values), daemon=True).start()

    def next(self) -> dict[str, Any] | None:
        """The next one, None if there is none yet. Raises ServerGone at the end, and the server's error."""
        try:
            found = self._came.get(timeout=_POLL_S)
        except Empty:
            return None
        if isinstance(found, Exception):
            raise found
        if "error" in found:
            raise wire.error_of(found["error"])
        return found

    def close(self) -> None:
        """End the connection; the server stops what it does for it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _run(self, path: str, values: Mapping[str, Any]) -> None:
        try:
            response = self._client._send(self._connection, path, values)
            if response.status != 200:
                _read(response)
            for line in response:
                self._came.put(json.loads(line))
        except LmsupplyError as error:
            self._came.put(error)
            return
        except (OSError, HTTPException, ValueError):
            pass
        self._came.put(self._client._gone())
