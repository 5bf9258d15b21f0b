"""`lmsupply ps`: the models that running servers have in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmsupply_cli.cli.options import Debug, Json

if TYPE_CHECKING:
    from lmsupply_cli.serving.requests import LoadedWorker
    from lmsupply_cli.serving.running import RunningServer

EXAMPLES = (
    ("lmsupply ps", "models in memory, and for how long"),
    ("lmsupply ps --json", "the same as JSON, for scripts"),
)


def ps(*, json: Json = False, debug: Debug = False) -> None:
    """List the models that running servers have in memory.

    Shows for each model its memory, its context, when it is unloaded if no further request comes, and how many requests are
    running and waiting.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.servers import NO_SERVER, loaded_models, own_servers

    terminal = Context.of().terminal
    servers = own_servers()
    found = [(server, worker) for server in servers for worker in loaded_models(server)]
    if json:
        terminal.json(
            {
                "servers": [_server_row(server) for server in servers],
                "models": [{"server": server.url, **_row(worker)} for server, worker in found],
            }
        )
    elif not servers:
        terminal.say(NO_SERVER)
    elif not found:
        terminal.say(f"no model is in memory at {', '.join(server.url for server in servers)}")
    else:
        _print(found, several=len(servers) > 1)


def _server_row(server: RunningServer) -> dict[str, Any]:
    return {"url": server.url, "pid": server.pid, "version": server.version, "root": server.root}


def _row(worker: LoadedWorker) -> dict[str, Any]:
    return {
        "ref": worker.ref,
        "memory_bytes": worker.bytes,
        "context_tokens": worker.context_tokens,
        "provider": worker.provider,
        "pid": worker.pid,
        "pinned": worker.pinned,
        "expires_s": None if worker.expires_s is None else round(worker.expires_s, 1),
        "running": worker.running,
        "waiting": worker.waiting,
        "answered": worker.answered,
    }


def _print(found: list[tuple[RunningServer, LoadedWorker]], *, several: bool) -> None:
    from lmsupply_cli.render.table import Column, print_table
    from lmsupply_cli.render.terminal import Terminal
    from lmsupply_cli.units import format_bytes

    workers = [worker for _, worker in found]
    print_table(
        Terminal.of_process(),
        [
            Column("MODEL", [worker.ref for worker in workers]),
            Column("MEMORY", [format_bytes(worker.bytes) for worker in workers], right=True),
            Column("CONTEXT", [f"{worker.context_tokens:,}" for worker in workers], right=True, rank=2),
            Column("PROVIDER", [worker.provider for worker in workers], rank=3),
            Column("UNLOADED", [_expiry(worker) for worker in workers], rank=1),
            Column("RUNNING", [str(worker.running) for worker in workers], right=True, rank=4),
            Column("WAITING", [str(worker.waiting) for worker in workers], right=True, rank=4),
            Column("ANSWERED", [f"{worker.answered:,}" for worker in workers], right=True, rank=6),
            Column("SERVER", [server.url if several else "" for server, _ in found], rank=5),
        ],
    )


def _expiry(worker: LoadedWorker) -> str:
    """When it is unloaded."""
    from lmsupply_cli.units import format_duration

    if worker.pinned or worker.expires_s is None:
        return "never"
    return "in use" if worker.running or worker.waiting else f"in {format_duration(worker.expires_s)}"
