"""Running servers, for the commands that look at them."""

from __future__ import annotations

from lmsupply_cli._version import __version__
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.serving.requests import LoadedWorker
from lmsupply_cli.serving.running import RunningServer
from lmsupply_cli.serving.server_client import CONNECT_S, ServerClient
from lmsupply_cli.serving.wire import LOADED

NO_SERVER = "no server is running; lmsupply serve starts one"


def own_servers() -> list[RunningServer]:
    """Those of this user, the newest first. Raises LmsupplyError for one of another version: it speaks otherwise."""
    servers = RunningServer.all()
    for server in servers:
        if server.version != __version__:
            raise LmsupplyError(
                f"the server at {server.url} is lmsupply {server.version}, but this is {__version__}",
                hint="restart the server",
            )
    return servers


def loaded_models(server: RunningServer) -> list[LoadedWorker]:
    """What it has in memory. Raises LmsupplyError."""
    rows = ServerClient(server).call(LOADED, CONNECT_S)["models"]
    return [LoadedWorker(**row) for row in rows]
