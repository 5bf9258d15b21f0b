"""The model of a running server, for commands that would load the same one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmsupply_cli._version import __version__
from lmsupply_cli.errors import EngineError, LmsupplyError, ServerGone
from lmsupply_cli.events import Notice
from lmsupply_cli.serving.running import RunningServer

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.prepare import Prepared
    from lmsupply_cli.loading.formats import FolderFormat
    from lmsupply_cli.loading.options import LoadOptions
    from lmsupply_cli.serving.remote import RemoteGenerator
    from lmsupply_cli.serving.server_client import ServerClient
    from lmsupply_cli.serving.wire import WarmRow

_FORMAT_NOTICES = ("chat_format", "reasoning")  # they depend on options that every request has
_CAN_BE_HERE = "this command loads the model itself"


def servers_of(root: Path) -> list[RunningServer]:
    """Servers of this store and version that run, the newest first. Without a record this is one look into a folder."""
    return [one for one in RunningServer.all() if one.version == __version__ and one.token and one.root == str(root)]


def warm_generator(ctx: Context, prepared: Prepared) -> RemoteGenerator | None:
    """The model as a server has it in memory; None if none has, or not as it is wanted here, which a notice says. Raises
    UsageError for options that are wrong."""
    for server in servers_of(ctx.root):
        if found := _warm(ctx, prepared, server):
            return _generator(ctx, prepared, *found)
    return None


def say_warm(ctx: Context, prepared: Prepared) -> None:
    """Whether a server's model would answer."""
    for server in servers_of(ctx.root):
        if _warm(ctx, prepared, server):
            text = f"the server at {server.url} has {prepared.model.ref} in memory and is used (--no-server loads the model in this command)"
            ctx.notice(Notice("server", text))
            return


def _warm(ctx: Context, prepared: Prepared, server: RunningServer) -> tuple[ServerClient, WarmRow, LoadOptions] | None:
    """The model, and how it is wanted."""
    from lmsupply_cli.cli.prepare import load_options
    from lmsupply_cli.cli.provider import load_provider
    from lmsupply_cli.serving.server_client import CONNECT_S, ServerClient
    from lmsupply_cli.serving.wire import WARM, WarmRow

    client, ref = ServerClient(server), prepared.model.ref
    try:
        row = client.call(WARM, CONNECT_S, model=ref)["model"]
        found = WarmRow.read(row) if row else None
    except ServerGone as error:
        ctx.notice(Notice("server", f"{error.message}: {_CAN_BE_HERE}"))
        return None
    except (LmsupplyError, KeyError, TypeError):  # it does not have this model
        return None
    if found is None or Path(found.path) != prepared.model.path:
        return None
    provider, said = load_provider(ctx.settings, prepared.model, prepared.folder)
    wanted = replace(load_options(ctx.settings, trust=prepared.folder.trusted), provider=provider)
    if differing := found.differences(wanted):
        names = " and ".join(f"`{name}`" for name in differing)
        verb = "differs" if len(differing) == 1 else "differ"
        ctx.notice(
            Notice("server", f"the server at {server.url} has {ref} in memory, but {names} {verb}: {_CAN_BE_HERE}")
        )
        return None
    return client, replace(found, notices=(*said, *found.notices)), wanted


def _generator(
    ctx: Context, prepared: Prepared, client: ServerClient, found: WarmRow, wanted: LoadOptions
) -> RemoteGenerator | None:
    from lmsupply_cli.cli.idle import idle_thinking
    from lmsupply_cli.engine.tokenizer import load_tokenizer
    from lmsupply_cli.generation.load import model_info
    from lmsupply_cli.loading.formats import read_format
    from lmsupply_cli.serving.remote import RemoteGenerator, RemoteLimits, RemotePrompter

    folder = prepared.folder
    chosen = read_format(
        folder, wanted=wanted.chat_format, enable_thinking=wanted.enable_thinking, effort=wanted.reasoning_effort
    )
    try:
        tokenizer = load_tokenizer(folder, visible=chosen.visible)
    except EngineError as error:
        ctx.notice(Notice("server", f"{error.message}, so the server's model is not used: {_CAN_BE_HERE}"))
        return None
    rest = [notice for notice in found.notices if notice.code not in _FORMAT_NOTICES]
    for notice in (*idle_thinking(ctx.settings, chosen.format), *chosen.notices, *rest):
        ctx.notice(notice)
    enable, effort = _thinking(chosen, found, wanted)
    fits_more = found.load["context"] is not None
    return RemoteGenerator(
        client,
        model_info(
            prepared.model,
            provider=found.provider,
            threads=found.threads,
            context_length=found.context_length,
        ),
        RemotePrompter(chosen.format, tokenizer, enable_thinking=enable, reasoning_effort=effort),
        RemoteLimits(
            found.context_tokens,
            found.context_length if fits_more else found.context_tokens,
            folder.model["vocab_size"],
        ),
        options=prepared.options,
        guidance=prepared.guidance,
    )


def _thinking(chosen: FolderFormat, found: WarmRow, wanted: LoadOptions) -> tuple[bool | None, str | None]:
    """What a request has to say of it: nothing where the server's model does the same, or where the format can't."""
    enable, effort = wanted.enable_thinking, wanted.reasoning_effort
    if (enable, effort) == (found.load["enable_thinking"], found.load["reasoning_effort"]):
        return None, None
    refused = " ".join(notice.text for notice in chosen.notices if notice.code == "reasoning")
    return None if "switch" in refused else enable, None if "reasoning_effort" in refused else effort
