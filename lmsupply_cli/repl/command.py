"""One row for each command of the chat: /help, completion and docs/chat.md derive from the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.parameters import PARAMETERS

Handler = Callable[[Chat, str], None]
Candidates = Callable[[Chat, str], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Command:
    """`handler` gets the chat and the rest of the line; `unavailable`: why the command cannot be used now, None where it
    can; `complete`: what the rest, as far as it is typed, may become; `path`: the rest is a file; `details`, `example`:
    shown by /help COMMAND; `synonyms`: words that other programs use, accepted but not listed."""

    names: tuple[str, ...]
    usage: str
    help: str
    handler: Handler
    complete: Candidates | None = None
    path: bool = False
    unavailable: Callable[[Chat], str | None] = lambda _: None
    details: str = ""
    example: str = ""
    synonyms: tuple[str, ...] = ()


def find_command(line: str, commands: dict[str, Command]) -> tuple[Command, str] | None:
    """The command that `line` calls and the rest of it; None for a message. Raises UsageError."""
    if not line.startswith("/"):
        return None
    name, _, rest = line.partition(" ")
    if name.lower() in commands:
        return commands[name.lower()], rest.strip()
    if "/" in name[1:] or "\n" in name:
        return None  # a path or a pasted text, not a command
    hint = "/help lists the commands"
    if name[1:].lower() in PARAMETERS:
        hint = f"/set {name[1:].lower()} VALUE changes it"
    elif near := get_close_matches(name.lower(), commands, n=1):
        hint = f"did you mean {commands[near[0]].names[0]}?"
    raise UsageError(f"no such command: {name}", hint=hint)


def needs_user_message(text: str) -> Callable[[Chat], str | None]:
    """`text` is said where the user has sent nothing yet."""
    return lambda chat: None if chat.session.asked else text


def needs_answer(text: str) -> Callable[[Chat], str | None]:
    """`text` is said where the last message is no answer."""
    return lambda chat: None if chat.session.answered else text


def one_of(*words: str) -> Candidates:
    return lambda _, rest: [word for word in words if word.startswith(rest)]
