"""/clear, /undo, /edit and /read: they only edit messages, the prompt cache follows."""

from __future__ import annotations

from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.attach import read_file
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.command import Command, needs_user_message
from lmsupply_cli.units import shortened


def _clear(chat: Chat, _: str) -> None:
    chat.start_afresh()
    chat.say("New chat. The system prompt stays." if chat.session.system else "New chat.")


def _undo(chat: Chat, _: str) -> None:
    chat.say(f"Removed: {shortened(chat.session.undo().content, 60)}")


def _edit(chat: Chat, _: str) -> None:
    asked = chat.session.asked
    text = chat.edit(asked)
    if not text.strip() or text == asked:
        why = "Nothing changed" if text == asked else "The message is empty"
        chat.say(f"{why}, so nothing was sent.")
        return
    before = list(chat.session.messages)
    chat.session.undo()
    chat.ask(text, keep=before)


def _read(chat: Chat, rest: str) -> None:
    if not rest:
        raise UsageError("/read needs the name of a file", hint="/read FILE")
    chat.ask(read_file(rest))


TURNS = (
    Command(
        ("/clear",),
        "",
        "start a new chat, with the same system prompt",
        _clear,
        details="The chat so far stays saved; /sessions lists it.",
        synonyms=("/new", "/reset"),
    ),
    Command(("/undo",), "", "undo the last exchange", _undo, unavailable=needs_user_message("Nothing to undo.")),
    Command(
        ("/edit",),
        "",
        "edit the last message in $EDITOR and send it again",
        _edit,
        unavailable=needs_user_message("Nothing to edit."),
        details="The last message and its answer are replaced. Ctrl-G opens the line that you are typing.",
    ),
    Command(
        ("/read", "/file"),
        "FILE",
        "send a text file as a message",
        _read,
        path=True,
        details="To ask about a file, name it in a message: what does @notes.txt say?",
        example="/read question.txt",
    ),
)
