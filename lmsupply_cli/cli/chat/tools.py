"""The tools that the command line names: Python functions, and those of MCP servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lmsupply_cli.chat.tools.spec import ToolSpec
from lmsupply_cli.cli.context import Context
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.keys import quiet_keys
from lmsupply_cli.toolbox.config import ServerConfig, read_servers
from lmsupply_cli.toolbox.functions import load_function
from lmsupply_cli.toolbox.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """`mcp`: configs of servers; `functions`: as module:function; `allowed`: names of tools that run without asking."""

    mcp: Sequence[str] = ()
    functions: Sequence[str] = ()
    allowed: Sequence[str] = ()


@contextmanager
def toolbox(ctx: Context, options: ToolOptions) -> Iterator[Toolbox]:
    """Servers start at once, while the model loads; `offer_tools` waits for them. Raises UsageError."""
    if options.allowed and not (options.mcp or options.functions):
        raise UsageError("--allow-tool has no effect without --mcp or --tool")
    functions = [(name.partition(":")[0], load_function(name)) for name in dict.fromkeys(options.functions)]
    configs = read_servers(options.mcp, ctx.terminal.environ)
    if clash := {config.name for config in configs} & {module for module, _ in functions}:
        raise UsageError(f"an MCP server and a module are named {min(clash)}", hint="rename one")
    for config in configs:
        if config.leaves and ctx.settings.get("offline"):
            raise UsageError(
                f"the MCP server {config.name} is at {config.url}, and `offline` is on", hint="leave one of them out"
            )
        if config.unused:
            keys = ", ".join(config.unused)
            ctx.notice(Notice("tool_server", f"the MCP server {config.name}: {keys} has no effect here"))
    if not configs:
        yield Toolbox(functions)
        return
    with _servers(configs, functions) as box:
        yield box


@contextmanager
def _servers(configs: Sequence[ServerConfig], functions: Sequence[tuple[str, ToolSpec]]) -> Iterator[Toolbox]:
    try:
        from lmsupply_cli.toolbox.mcp_client import McpServer, McpThread, close_servers
    except ImportError as error:
        raise UsageError(
            f"MCP servers need the package mcp, version 2: {error}", hint="pip install 'lmsupply[mcp]'"
        ) from error
    thread = McpThread()
    servers = [McpServer(config, thread) for config in configs]
    try:
        for server in servers:
            server.start()
        yield Toolbox(functions, servers)
    finally:
        close_servers(servers, thread)


def offer_tools(chat: Chat, options: ToolOptions) -> None:
    """Wait for the servers, and tell the model and the user of the tools. Raises UsageError."""
    box, terminal = chat.world.toolbox, chat.terminal
    status = terminal.status()
    if box.servers:
        status.show("waiting for the MCP servers …")
    try:
        with quiet_keys(terminal.stdin):
            notices = list(box.open(allowed=options.allowed))
    finally:
        status.clear()
    for notice in notices:
        terminal.notice(notice)
    chat.update_tools()
    if box.tools:
        terminal.say(f"{chat.tool_cost()} /tools lists them.")
    if chat.session.tool_tokens() > chat.session.context_tokens // 2:
        terminal.notice(Notice("tools", "the tools take more than half of the context; /tools disable NAME makes room"))
