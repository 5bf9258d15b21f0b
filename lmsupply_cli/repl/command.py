"""One row for each command of the chat: /help, completion and docs/chat.md derive from the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lmsupply_cli.errors import UsageError

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop

Handler = Callable[["ChatLoop", str], None]
Candidates = Callable[["ChatLoop", str], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Command:
    """`handler` gets the loop and the rest of the line; `lacks` says what is missing for it to be legal, "" where
    nothing is; `complete` gives what the rest, as far as it is typed, may become; `path`: it is a file."""

    names: tuple[str, ...]
    usage: str
    help: str
    handler: Handler
    complete: Candidates | None = None
    path: bool = False
    lacks: Callable[[ChatLoop], str] = lambda _: ""


def find_command(line: str, commands: dict[str, Command]) -> tuple[Command, str] | None:
    """The command that `line` calls and the rest of it; None for a message. Raises UsageError."""
    if not line.startswith("/"):
        return None
    name, _, rest = line.partition(" ")
    if name.lower() in commands:
        return commands[name.lower()], rest.strip()
    if "/" in name[1:] or "\n" in name:
        return None  # a path or a pasted text, not a command
    near = get_close_matches(name.lower(), commands, n=1)
    raise UsageError(
        f"no such command: {name}", hint=f"did you mean {near[0]}?" if near else "/help lists the commands"
    )


def lacks_turn(loop: ChatLoop) -> str:
    return "" if loop.session.asked else "there is no message of yours yet"


def lacks_answer(loop: ChatLoop) -> str:
    return "" if loop.session.answered else "there is no answer yet"


def one_of(*words: str) -> Candidates:
    return lambda _, rest: [word for word in words if word.startswith(rest)]
