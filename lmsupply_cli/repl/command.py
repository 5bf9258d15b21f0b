"""The commands of the chat: one row each; /help and completion derive from the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lmsupply_cli.errors import UsageError

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop


@dataclass(frozen=True, slots=True)
class Command:
    """`handler` gets the loop and the rest of the line."""

    names: tuple[str, ...]
    usage: str
    help: str
    handler: Callable[[ChatLoop, str], None]


def _help(loop: ChatLoop, _: str) -> None:
    rows = [(" ".join((*command.names, command.usage)).strip(), command.help) for command in COMMANDS]
    width = max(len(left) for left, _ in rows)
    loop.say("\n".join(f"  {left.ljust(width)}  {right}" for left, right in rows))
    loop.say("Ctrl-C stops an answer; Ctrl-D leaves.")


def _bye(loop: ChatLoop, _: str) -> None:
    loop.done = True


def _clear(loop: ChatLoop, _: str) -> None:
    loop.session.clear()
    loop.say("The chat starts afresh; the system prompt stays.")


def _stats(loop: ChatLoop, rest: str) -> None:
    if rest not in ("", "on", "off"):
        raise UsageError(f"/stats takes on or off, not {rest!r}")
    loop.show_stats = rest == "on" if rest else not loop.show_stats
    loop.say("Statistics follow each answer." if loop.show_stats else "No statistics.")


COMMANDS: tuple[Command, ...] = (
    Command(("/help", "/?"), "", "show the commands", _help),
    Command(("/clear",), "", "forget the messages so far", _clear),
    Command(("/stats",), "[on|off]", "show tokens and speed after each answer", _stats),
    Command(("/bye", "/exit", "/quit"), "", "leave the chat", _bye),
)
NAMES: dict[str, Command] = {name: command for command in COMMANDS for name in command.names}


def find_command(line: str) -> tuple[Command, str] | None:
    """The command that `line` calls and the rest of it; None for a message. Raises UsageError."""
    if not line.startswith("/"):
        return None
    name, _, rest = line.partition(" ")
    if name.lower() in NAMES:
        return NAMES[name.lower()], rest.strip()
    if "/" in name[1:] or "\n" in name:
        return None  # a path or a pasted text, not a command
    near = get_close_matches(name.lower(), NAMES, n=1)
    raise UsageError(
        f"no such command: {name}", hint=f"did you mean {near[0]}?" if near else "/help lists the commands"
    )
