"""Saved chats: name, load, list, rename, delete, export."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lmsupply_cli.chats.archive import SavedChat
from lmsupply_cli.chats.export import FORMS, export_text
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import expanded, is_absent, is_folder, resolved, write_whole
from lmsupply_cli.repl.command import Command, lacks_turn
from lmsupply_cli.units import format_age

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop

_SHOWN = 20


def _save(loop: ChatLoop, rest: str) -> None:
    loop.say(loop.save_as(rest))


def _load(loop: ChatLoop, rest: str) -> None:
    if not rest:
        raise UsageError("/load needs the name of a chat", hint="/sessions lists them")
    loop.go_on(loop.archive.load(rest))


def _sessions(loop: ChatLoop, rest: str) -> None:
    what, _, names = rest.partition(" ")
    if what == "rename":
        old, new = _two(names)
        if old == loop.chat_name() and not loop.not_kept:
            loop.say(loop.save_as(new))
        else:
            loop.archive.rename(old, new)
            loop.say(f"{old} is {new} now.")
        return
    if what == "delete":
        if not names.strip():
            raise UsageError("/sessions delete needs the name of a chat")
        loop.archive.load(names.strip())
        loop.archive.refuse_open(names.strip())
        if loop.confirm(f"Delete the chat {names.strip()!r} for good?"):
            loop.archive.delete(names.strip())
            loop.say("It is deleted.")
        return
    found = loop.archive.find(rest)
    for reason in loop.archive.unreadable():
        loop.say(f"note: skipped: {reason}")
    if not found:
        loop.say(f"No saved chat holds {rest!r}." if rest else "There are no saved chats.")
        return
    loop.say_rows([_row(chat, loop.chat_name()) for chat in found[:_SHOWN]])
    if len(found) > _SHOWN:
        loop.say(f"({len(found) - _SHOWN} more; /sessions TEXT searches)")


def _row(chat: SavedChat, current: str) -> tuple[str, str]:
    title = chat.title if len(chat.title) <= 50 else chat.title[:49] + "…"
    here = ", this one" if chat.name == current else ""
    return (
        chat.name,
        f"{title}  ({chat.model}, {len(chat.messages)} messages, {format_age(time.time() - chat.changed)}{here})",
    )


def _two(names: str) -> tuple[str, str]:
    parts = names.split()
    if len(parts) != 2:
        raise UsageError("/sessions rename needs an old and a new name", hint="/sessions rename OLD NEW")
    return parts[0], parts[1]


def _export(loop: ChatLoop, rest: str) -> None:
    if not rest:
        raise UsageError("/export needs a file", hint=f"its ending says the form: {', '.join(FORMS)}")
    path = resolved(expanded(rest))  # a link stays a link
    text = export_text(loop.session.messages, path.suffix, model=loop.session.generator.info.ref)
    if not is_folder(path.parent):
        raise UsageError(f"cannot write {path}: its folder does not exist, or may not be used")
    if not is_absent(path) and not loop.confirm(f"{path} exists. Write over it?"):
        return
    write_whole(path, text, keep_mode=True, error=UsageError)
    loop.say(f"Written: {path}")


def _names(loop: ChatLoop, rest: str) -> Iterable[str]:
    return [name for name in loop.archive.names() if name.startswith(rest)]


def _complete_sessions(loop: ChatLoop, rest: str) -> Iterable[str]:
    what, space, name = rest.partition(" ")
    if space and what in ("rename", "delete"):
        return [f"{what} {found}" for found in loop.archive.names() if found.startswith(name)]
    return [word for word in ("rename", "delete") if word.startswith(rest)] if not space else []


SAVED = (
    Command(("/save",), "[NAME]", "name this chat", _save, lacks=lambda loop: loop.not_kept),
    Command(("/load",), "NAME", "go on with a saved chat", _load, _names),
    Command(
        ("/sessions",),
        "[TEXT]",
        "list the saved chats, or those that hold TEXT; rename OLD NEW; delete NAME",
        _sessions,
        _complete_sessions,
    ),
    Command(
        ("/export",), "FILE", "write this chat to a file: .md, .json or .txt", _export, path=True, lacks=lacks_turn
    ),
)
