"""`lmsupply stop`: unload models of running servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lmsupply_cli.cli.options import Debug, Json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmsupply_cli.render.terminal import Terminal
    from lmsupply_cli.serving.requests import LoadedWorker
    from lmsupply_cli.serving.running import RunningServer

    Loaded = list[tuple[RunningServer, LoadedWorker]]

EXAMPLES = (
    ("lmsupply stop phi-4-mini", "free its memory"),
    ("lmsupply stop --all", "unload every model; the server keeps running"),
)


def stop(
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Unload every model.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Unload models that running servers have in memory.

    Running answers finish first. The server itself keeps running, and loads a model again when a request needs it. To stop
    the server, press Ctrl-C where it runs.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.servers import NO_SERVER, loaded_models, own_servers
    from lmsupply_cli.errors import LmsupplyError, UsageError

    if bool(names) == every:
        raise UsageError("name the models to unload, or use --all", hint="lmsupply ps lists those in memory")
    terminal = Context.of().terminal
    servers = own_servers()
    if not servers:
        message, _, hint = NO_SERVER.partition("; ")
        raise LmsupplyError(message, hint=hint)
    found = [(server, worker) for server in servers for worker in loaded_models(server)]
    chosen = found if every else _named(servers, found, names or [])
    unloaded = _unload(chosen, terminal)
    if json:
        rows = [{"server": server.url, "ref": worker.ref, "memory_bytes": worker.bytes} for server, worker in unloaded]
        terminal.json({"unloaded": rows})
    elif not unloaded:
        terminal.say("no model is in memory")


def _named(servers: Sequence[RunningServer], found: Loaded, names: Iterable[str]) -> Loaded:
    """Raises ModelNotFound, ModelNotInstalled, and LmsupplyError for a model that is not in memory."""
    from lmsupply_cli.errors import LmsupplyError
    from lmsupply_cli.serving.server_client import CONNECT_S, ServerClient
    from lmsupply_cli.serving.wire import FIND

    chosen: Loaded = []
    for name in names:
        refs = {ServerClient(server).call(FIND, CONNECT_S, model=name)["ref"] for server in servers}
        mine = [pair for pair in found if pair[1].ref in refs]
        if not mine:
            there = ", ".join(dict.fromkeys(worker.ref for _, worker in found))
            raise LmsupplyError(f"{name} is not in memory", hint=f"in memory: {there}" if there else "")
        chosen += [pair for pair in mine if pair not in chosen]
    return chosen


def _unload(chosen: Loaded, terminal: Terminal) -> Loaded:
    """Those that were in memory until now."""
    from lmsupply_cli.serving.server_client import ServerClient
    from lmsupply_cli.serving.wire import UNLOAD
    from lmsupply_cli.units import count, format_bytes

    unloaded = []
    for server, worker in chosen:
        status = terminal.status()
        rest = f" after {count(worker.running, 'running answer')}" if worker.running else ""
        status.show(f"unloading {worker.ref}{rest} …")
        try:
            done = ServerClient(server).call(UNLOAD, model=worker.ref)["unloaded"]
        finally:
            status.clear()
        if done:
            unloaded.append((server, worker))
            terminal.say(f"unloaded {worker.ref}: {format_bytes(worker.bytes)} freed")
    return unloaded
