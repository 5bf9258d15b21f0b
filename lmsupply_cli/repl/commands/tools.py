"""/tools: what the model may call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.command import Command
from lmsupply_cli.toolbox.toolbox import ChatTool
from lmsupply_cli.units import count, shortened

_NONE = "This chat has no tools. Start it with --mcp CONFIG or --tool MODULE:FUNCTION."
_SHOWN = 50
_NARROW, _WIDE = 20, 100  # columns of a description


def _tools(chat: Chat, rest: str) -> None:
    what, _, name = rest.partition(" ")
    if not rest:
        _list(chat)
    elif what in _CHANGES and name.strip():
        _change(chat, what, name.strip())
    elif what in _CHANGES:
        raise UsageError(f"/tools {what} needs the name of a tool or of a server", hint="/tools lists them")
    else:
        _describe(chat, rest)


def _list(chat: Chat) -> None:
    tools = sorted(chat.world.toolbox.tools, key=lambda tool: not tool.enabled)
    width = max(_NARROW, min(chat.terminal.width, _WIDE) - 3)
    for tool in tools[:_SHOWN]:
        chat.say(f"{tool.name} of {_state(tool)}")
        if text := shortened(tool.spec.description, width):
            chat.say(f"  {text}")
    if len(tools) > _SHOWN:
        chat.say(f"{len(tools) - _SHOWN:,} more are not shown; /tools NAME shows one.")
    chat.say(chat.tool_cost())


def _state(tool: ChatTool) -> str:
    if not tool.enabled:
        return f"{tool.source} · disabled"
    return f"{tool.source} · {'asks' if tool.asks else 'runs without asking'}"


def _describe(chat: Chat, name: str) -> None:
    for tool in chat.world.toolbox.named(name)[:_SHOWN]:
        chat.say(f"{tool.name} of {_state(tool)}")
        if tool.spec.description:
            chat.say(tool.spec.description)
        chat.say(json.dumps(tool.spec.parameters, ensure_ascii=False))


def _change(chat: Chat, what: str, name: str) -> None:
    """Of one tool, or of all of a server."""
    tools = chat.world.toolbox.named(name)
    for tool in tools:
        _CHANGES[what](tool)
    chat.update_tools()
    done = tools[0].name if len(tools) == 1 else f"{count(len(tools), 'tool')} of {name}"
    chat.say(f"{done}: {_state(tools[0]).partition(' · ')[2]}.")
    if what in ("enable", "disable"):
        chat.say(chat.tool_cost())


def _enable(tool: ChatTool) -> None:
    tool.enabled = True


def _disable(tool: ChatTool) -> None:
    tool.enabled = False


def _allow(tool: ChatTool) -> None:
    tool.allowed = True


def _ask(tool: ChatTool) -> None:
    tool.allowed = tool.always = False


_CHANGES: dict[str, Callable[[ChatTool], None]] = {
    "enable": _enable, "disable": _disable, "allow": _allow, "ask": _ask,
}  # fmt: skip


def _complete(chat: Chat, rest: str) -> Iterable[str]:
    what, space, name = rest.partition(" ")
    tools = chat.world.toolbox.tools
    names = list(dict.fromkeys([*(tool.name for tool in tools), *(tool.source for tool in tools)]))
    if space and what in _CHANGES:
        return [f"{what} {one}" for one in names if one.startswith(name)]
    return [word for word in (*_CHANGES, *names) if word.startswith(rest)]


TOOLS = (
    Command(
        ("/tools",),
        "[NAME]",
        "list the tools, or explain one; enable, disable, allow or ask NAME",
        _tools,
        _complete,
        unavailable=lambda chat: None if chat.world.toolbox.tools else _NONE,
        details="NAME is a tool, or a server for all of its tools. The model is not told of a disabled tool. `allow` runs a "
        "tool without asking, `ask` asks again.",
        example="/tools disable write_file",
        synonyms=("/tool", "/mcp"),
    ),
)
