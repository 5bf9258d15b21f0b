"""/save, /load, /sessions and /export: saved chats."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable

from lmsupply_cli.chats.archive import SavedChat
from lmsupply_cli.chats.export import export_text
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import expanded, is_absent, is_folder, resolved, write_whole
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.command import Command, needs_user_message
from lmsupply_cli.units import count, format_age, shortened

_SHOWN = 10


def _save(chat: Chat, rest: str) -> None:
    chat.say(chat.save_as(rest))


def _load(chat: Chat, rest: str) -> None:
    if not rest:
        raise UsageError("/load needs the name or the number of a chat", hint="/sessions lists them")
    chat.resume(chat.archive.load(chat.archive.named(rest, chat.listed)))


def _sessions(chat: Chat, rest: str) -> None:
    what, _, names = rest.partition(" ")
    if what == "rename":
        _rename(chat, names)
    elif what == "delete":
        _delete(chat, names.strip())
    else:
        _list(chat, rest)


def _list(chat: Chat, text: str) -> None:
    found = chat.archive.find(text)
    for reason in found.skipped:
        chat.note(f"skipped: {reason}")
    if not found.chats:
        chat.say(f"No saved chat matches {text!r}." if text else "There are no saved chats.")
        return
    chat.listed = [saved.name for saved in found.chats]
    rows = []
    for number, saved in enumerate(found.chats[:_SHOWN], 1):
        rows += [(str(number), shortened(saved.title, 60)), ("", _about(saved, chat.keeper.name))]
    chat.say_rows(rows)
    older = len(found.chats) - _SHOWN
    more = f"{count(older, 'older chat')} not shown: /sessions TEXT searches. " if older > 0 else ""
    chat.say(f"{more}/load N opens one.")


def _about(saved: SavedChat, current: str) -> str:
    age = format_age(time.time() - saved.changed)
    parts = [saved.name, saved.model, count(len(saved.messages), "message"), age]
    return " · ".join([*parts, "this chat"] if saved.name == current else parts)


def _rename(chat: Chat, names: str) -> None:
    try:
        parts = shlex.split(names)
    except ValueError:
        parts = []
    if len(parts) != 2:
        raise UsageError(
            "/sessions rename needs an old and a new name", hint="/sessions rename OLD NEW; quote names with spaces"
        )
    old, new = chat.archive.named(parts[0], chat.listed), parts[1]
    if old == chat.keeper.name:
        chat.keeper.rename(new)
    else:
        chat.archive.rename(old, new)
    chat.listed = [new if name == old else name for name in chat.listed]
    chat.say(f"Renamed {old} to {new}.")


def _delete(chat: Chat, name: str) -> None:
    if not name:
        raise UsageError("/sessions delete needs the name or the number of a chat")
    name = chat.archive.named(name, chat.listed)
    chat.archive.load(name)
    chat.archive.refuse_open(name)
    if chat.confirm(f"Delete the chat {name!r} permanently?"):
        chat.archive.delete(name)
        chat.say("Deleted.")


def _export(chat: Chat, rest: str) -> None:
    if not rest:
        raise UsageError("/export needs a file", hint="use the extension .md, .json or .txt")
    quoted = len(rest) > 2 and rest[0] == rest[-1] and rest[0] in "\"'"
    path = resolved(expanded(rest[1:-1] if quoted else rest))  # a link stays a link
    text = export_text(chat.session.messages, path.suffix, model=chat.session.generator.info.ref)
    if not is_folder(path.parent):
        raise UsageError(f"cannot write {path}: its folder does not exist, or may not be used")
    if not is_absent(path) and not chat.confirm(f"{path} exists. Overwrite it?"):
        return
    write_whole(path, text, keep_mode=True, error=UsageError)
    chat.say(f"Saved to {path}")


def _names(chat: Chat, rest: str) -> Iterable[str]:
    return [name for name in chat.archive.names() if name.startswith(rest)]


def _complete_sessions(chat: Chat, rest: str) -> Iterable[str]:
    what, space, name = rest.partition(" ")
    if space and what in ("rename", "delete"):
        return [f"{what} {found}" for found in chat.archive.names() if found.startswith(name)]
    return [word for word in ("rename", "delete") if word.startswith(rest)] if not space else []


SAVED = (
    Command(
        ("/save",),
        "[NAME]",
        "name this chat",
        _save,
        unavailable=lambda chat: chat.keeper.unavailable,
        details="Chats are saved as you go; a name makes one easy to find.",
        example="/save whales",
    ),
    Command(
        ("/load",),
        "NAME|N",
        "resume a saved chat, by its name or its number in /sessions",
        _load,
        _names,
        example="/load 2",
        synonyms=("/resume", "/open"),
    ),
    Command(
        ("/sessions",),
        "[TEXT]",
        "list the saved chats, or those matching TEXT; rename OLD NEW; delete NAME",
        _sessions,
        _complete_sessions,
        details="`/sessions rename OLD NEW` and `/sessions delete NAME` take numbers too.",
        example="/sessions whales",
        synonyms=("/chats", "/history"),
    ),
    Command(
        ("/export",),
        "FILE",
        "write this chat to a file: .md, .json or .txt",
        _export,
        path=True,
        unavailable=needs_user_message("Nothing to export."),
        example="/export whales.md",
    ),
)
