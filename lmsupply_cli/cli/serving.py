"""From the options of `lmsupply serve` to a running server."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmsupply_cli._version import __version__
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.exit import ERROR, INTERRUPTED, TERMINATED
from lmsupply_cli.cli.idle import check_flags
from lmsupply_cli.cli.options import whole_number
from lmsupply_cli.cli.prepare import load_options
from lmsupply_cli.cli.provider import load_provider
from lmsupply_cli.errors import FileError, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.files import expanded, read_text
from lmsupply_cli.serving.pool_options import WorkerPoolHooks, WorkerPoolOptions
from lmsupply_cli.serving.running import RunningServer
from lmsupply_cli.serving.worker_pool import WorkerPool
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.locate import LocatedModel
from lmsupply_cli.units import count, parse_duration

if TYPE_CHECKING:
    from lmsupply_cli.server.state import ServerOptions

KEY_VARIABLE = "LMSUPPLY_API_KEY"
GRACE_S = 30.0
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """What the options say, checked. `keep_alive_s` None: for ever."""

    host: str
    port: int
    keys: tuple[str, ...]
    cors: tuple[str, ...]
    hosts: tuple[str, ...]
    keep_alive_s: float | None
    max_models: int | None
    max_queue: int
    ping_s: int
    log_requests: bool
    log_prompts: bool

    @classmethod
    def of(
        cls,
        *,
        host: str,
        port: str,
        keys: tuple[str | None, str | None],
        cors: Sequence[str],
        allow_host: Sequence[str],
        limits: Mapping[str, str | None],
        logs: tuple[bool, bool],
    ) -> ServeRequest:
        """`keys`: the key itself, and the file with keys. Raises UsageError."""
        found = read_keys(*keys)
        if not is_loopback(host) and not found:
            raise UsageError(
                f"--host {host} is reachable from other machines, so a key is required",
                hint="--api-key-file FILE, or --host 127.0.0.1",
            )
        keep_alive = parse_duration(str(limits["keep_alive"]))
        most = limits["max_models"]
        return cls(
            host=host,
            port=whole_number("--port", port, 0, 65535),
            keys=found,
            cors=tuple(map(_origin, cors)),
            hosts=tuple(map(_host_name, allow_host)),
            keep_alive_s=None if keep_alive == float("inf") else keep_alive,
            max_models=None if most is None else whole_number("--max-models", most, 1, 1000),
            max_queue=whole_number("--max-queue", str(limits["max_queue"]), 0, 100_000),
            ping_s=whole_number("--ping", str(limits["ping"]), 0, 3600),
            log_requests=logs[0],
            log_prompts=logs[1],
        )

    def options(self) -> ServerOptions:
        """For the application."""
        from lmsupply_cli.server.state import ServerOptions

        return ServerOptions(
            api_keys=self.keys,
            hosts=(*self.hosts, *_own_names(self.host)),
            cors=self.cors,
            ping_s=self.ping_s,
            log_requests=self.log_requests,
            log_prompts=self.log_prompts,
        )


def read_keys(key: str | None, file: str | None) -> tuple[str, ...]:
    """From the options, else from LMSUPPLY_API_KEY. Raises UsageError."""
    if key is not None and file is not None:
        raise UsageError("--api-key and --api-key-file can't be combined", hint="use one of them")
    if file is not None:
        text = read_text(expanded(file), limit_bytes=100_000, error=UsageError)
        keys = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if not keys:
            raise UsageError(f"{file} has no key", hint="write one key per line")
        return tuple(_key(one, file) for one in keys)
    if key is not None:
        return (_key(key, "--api-key"),)
    found = os.environ.get(KEY_VARIABLE, "").strip()
    return (_key(found, KEY_VARIABLE),) if found else ()


def _key(text: str, place: str) -> str:
    """Raises UsageError for one that no header can hold."""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"{place}: a key must consist of letters, digits and punctuation, without spaces")
    return text


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. A name counts by its addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return host == "localhost"
    return all(ipaddress.ip_address(str(row[4][0]).partition("%")[0]).is_loopback for row in found)


def _own_names(host: str) -> tuple[str, ...]:
    """What clients may call the server, beside loopback."""
    name = socket.gethostname()
    return (host, name, f"{name}.local") if host in ("0.0.0.0", "::") else (host,)


def _origin(text: str) -> str:
    """Raises UsageError for what is no origin: browsers compare it letter by letter."""
    scheme, separator, rest = text.partition("://")
    if text != "*" and (not separator or not scheme or not rest or "/" in rest):
        raise UsageError(
            f"--cors {text}: an origin must be scheme://host or scheme://host:port", hint="--cors http://localhost:3000"
        )
    return text


def _host_name(text: str) -> str:
    """Raises UsageError."""
    if not text or "/" in text or " " in text:
        raise UsageError(
            f"--allow-host {text}: must be a host name, without a scheme or path", hint="--allow-host ai.example.com"
        )
    return text


def run_server(context: Context, request: ServeRequest, refs: tuple[str, ...]) -> int:
    """Until a signal comes; the exit code. Raises LmsupplyError."""
    from lmsupply_cli.server.run import ServerHooks, listen, log_to, serve, url_of

    settings, terminal = context.settings, context.terminal
    check_flags(settings)
    options = replace(request.options(), token=secrets.token_hex(16))
    if options.log_requests:
        log_to(lambda line: terminal.aside(line, always=True))
    bound = listen(request.host, request.port)
    url = url_of(bound)
    pool_options = WorkerPoolOptions(
        memory_limit=settings.get("memory_limit"),
        keep_alive_s=request.keep_alive_s,
        max_models=request.max_models,
        max_queue=request.max_queue,
        pinned=refs,
        load=replace(load_options(settings), memory_limit=None, cache_dir=context.root),
    )
    record = RunningServer(
        url, os.getpid(), time.time(), __version__, bool(request.keys), str(context.root), options.token
    )
    status = terminal.status()

    async def run() -> int | None:
        with ExitStack() as held:

            def ready() -> None:
                status.clear()
                try:
                    held.enter_context(record.recorded())
                except FileError as error:
                    context.notice(
                        Notice("server_record", f"other commands will not find this server: {error.message}")
                    )
                terminal.say(_greeting(url, refs))

            if refs:
                status.show(f"loading {', '.join(refs)} …")
            return await serve(
                WorkerPool(pool_options, hooks=WorkerPoolHooks(provider=provider)),
                bound,
                options,
                grace_s=GRACE_S,
                hooks=ServerHooks(ready, stopping),
            )

    def provider(model: LocatedModel) -> str:
        """As `run` chooses it."""
        found, said = load_provider(settings, model, open_model(model))
        for notice in said:
            context.notice(notice)
        return found

    def stopping(answers: int) -> None:
        rest = f"; {count(answers, 'answer')} may finish, Ctrl-C again stops at once" if answers else ""
        terminal.say(f"stopping{rest}")

    try:
        signal_number = asyncio.run(run())
    finally:
        status.clear()
    return _CODES.get(signal.Signals(signal_number), ERROR) if signal_number else 0


def _greeting(url: str, refs: Sequence[str]) -> str:
    """One line: where it is, and what to try."""
    return f"serving {', '.join(refs) or 'installed models'} at {url}; for OpenAI clients {url}/v1; try: curl {url}/v1/models"
