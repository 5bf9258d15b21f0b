"""A server of this process: a socket, models, and uvicorn between them, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import uvicorn

from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.server.app import make_app
from lmsupply_cli.server.state import ServerOptions, ServerState
from lmsupply_cli.serving.requests import Models

_KEEP_ALIVE_S = 75  # longer than clients keep an idle connection, so that none is closed while a request is sent
_BACKLOG = 2048
_TAIL_S = 5  # for responses that tell clients that their answers were cancelled
_LAST_S = 1.0  # the same, after a second signal
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Pool(Models, Protocol):
    """Models with a beginning and an end."""

    async def start(self) -> None:
        """Load what is needed from the start."""

    async def close(self, *, grace_s: float = 30.0) -> None:
        """Running answers finish, then everything ends."""

    def kill(self) -> None:
        """Everything ends at once."""


@dataclass(frozen=True, slots=True)
class ServerHooks:
    """`ready`: requests are answered now; `stopping`: a signal came, and so many answers still run."""

    ready: Callable[[], None] = lambda: None
    stopping: Callable[[int], None] = lambda answers: None


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; it accepts connections once `serve` is ready. Port 0: any that is free. Raises
    LmsupplyError, UsageError for an address that this machine does not have."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"cannot listen on {host!r}: no such address", hint="--host 127.0.0.1") from error
    family, _, _, _, address = min(
        found, key=lambda row: row[0] != socket.AF_INET
    )  # clients say 127.0.0.1 for localhost
    # with its protocol, or asyncio does not turn on TCP_NODELAY, and every second write waits for an acknowledgement
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if host == "::":
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # all addresses of both kinds
        if sys.platform != "win32":  # there it would let two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _cannot_listen(error, host, port) from error
    return bound


def _cannot_listen(error: OSError, host: str, port: int) -> LmsupplyError:
    if error.errno == errno.EADDRINUSE:
        return LmsupplyError(
            f"port {port} of {host} is in use", hint="lmsupply ps shows a running server; or use another --port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"cannot listen on {host}: this machine does not have that address", hint="--host 127.0.0.1")
    if error.errno == errno.EACCES:
        return LmsupplyError(f"port {port} is not allowed", hint="use a port from 1024 on")
    return LmsupplyError(f"cannot listen on {host}, port {port}: {error.strerror}")


def url_of(bound: socket.socket) -> str:
    """Where a program on this machine reaches it."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    models: Pool,
    bound: socket.socket,
    options: ServerOptions,
    *,
    grace_s: float = 30.0,
    hooks: ServerHooks | None = None,
) -> int | None:
    """Load the models, answer requests, and stop at SIGINT or SIGTERM, which is returned: running answers may finish for
    `grace_s` seconds, unless a second signal comes. Raises what loading raises."""
    hooks = hooks or ServerHooks()
    state = ServerState(models, options)
    config = uvicorn.Config(
        make_app(state),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        http="h11",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(grace_s)) + _TAIL_S,
    )
    server = _Server(config)
    stop = _Stop(server, models, hooks, grace_s)
    with stop.on_signals():
        try:
            await models.start()
            stop.loaded = True
            bound.listen(_BACKLOG)  # who connects from now on is answered
            hooks.ready()
            await server.serve(sockets=[bound])
        except asyncio.CancelledError:
            if stop.signal is None:
                raise
        finally:
            bound.close()
            state.reader.close()
            await models.close(grace_s=0)
    return stop.signal


class _Server(uvicorn.Server):
    """Signals are handled in `_Stop`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Stop:
    """The first signal lets answers finish, the second ends them."""

    def __init__(self, server: uvicorn.Server, models: Pool, hooks: ServerHooks, grace_s: float) -> None:
        self.signal: int | None = None
        self.loaded = False
        self._server, self._models, self._hooks, self._grace_s = server, models, hooks, grace_s
        self._main = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._closing: asyncio.Task[None] | None = None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Only the main thread may handle them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._came) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _came(self, number: int, frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop, number)

    def _stop(self, number: int) -> None:
        first, self.signal = self.signal is None, self.signal or number
        if not self.loaded and self._main:
            self._main.cancel()
        elif first:
            self._hooks.stopping(sum(worker.running + worker.waiting for worker in self._models.loaded()))
            self._server.should_exit = True
            self._closing = self._loop.create_task(self._models.close(grace_s=self._grace_s))
        else:
            self._models.kill()
            self._loop.call_later(_LAST_S, self._leave)

    def _leave(self) -> None:
        """Whoever still reads a response is cut off, which is no error."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        self._server.force_exit = True


def log_to(write: Callable[[str], None]) -> None:
    """Lines about requests, which are off unless options turn them on."""
    logger = logging.getLogger("lmsupply.server")
    logger.addHandler(_Lines(write))
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Lines(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(record.getMessage())
