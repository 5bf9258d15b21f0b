"""Commands that change the chat itself: they only edit messages, the prompt cache follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.attach import read_file
from lmsupply_cli.repl.command import Command, lacks_answer, lacks_turn
from lmsupply_cli.repl.editor import edit_text

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop


def _clear(loop: ChatLoop, _: str) -> None:
    loop.begin_afresh()
    loop.say("The chat starts afresh; the system prompt stays.")


def _undo(loop: ChatLoop, _: str) -> None:
    asked = loop.session.undo()
    loop.say(f"Taken back: {_shown(asked.content)}")


def _regen(loop: ChatLoop, _: str) -> None:
    loop.show(loop.session.regenerate())


def _edit(loop: ChatLoop, _: str) -> None:
    asked = loop.session.asked
    text = edit_text(asked, loop.environ).strip("\n")
    if not text.strip() or text == asked:
        loop.say("Nothing changed.")
        return
    before = list(loop.session.messages)
    loop.session.undo()
    loop.ask(text, keep=before)


def _continue(loop: ChatLoop, _: str) -> None:
    loop.show(loop.session.resume())


def _read(loop: ChatLoop, rest: str) -> None:
    if not rest:
        raise UsageError("/read needs the name of a file")
    loop.ask(read_file(rest))


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"


TURNS = (
    Command(("/clear",), "", "forget the messages so far", _clear),
    Command(("/undo",), "", "take back the last message and its answer", _undo, lacks=lacks_turn),
    Command(("/regen",), "", "answer the last message again", _regen, lacks=lacks_turn),
    Command(("/edit",), "", "change the last message in $EDITOR and ask it again", _edit, lacks=lacks_turn),
    Command(("/continue",), "", "go on with the last answer where it ended", _continue, lacks=lacks_answer),
    Command(("/read",), "FILE", "send a text file as a message", _read, path=True),
)
