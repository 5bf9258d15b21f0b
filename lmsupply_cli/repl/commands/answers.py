"""/regen, /continue and /copy: what to do with the last answer."""

from __future__ import annotations

from lmsupply_cli.chat.messages import ChatRole
from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.clipboard import copy_text
from lmsupply_cli.repl.command import Command, needs_answer, needs_user_message
from lmsupply_cli.units import count


def _regen(chat: Chat, _: str) -> None:
    chat.show(chat.session.regenerate())


def _continue(chat: Chat, _: str) -> None:
    chat.go_on()


def _copy(chat: Chat, rest: str) -> None:
    answer = chat.session.messages[-1]
    assert answer.role is ChatRole.ASSISTANT
    if not rest:
        chat.say(copy_text(answer.content, chat.terminal))
        return
    from lmsupply_cli.render.markdown_parser import code_blocks

    blocks = code_blocks(answer.content)
    if not rest.isdecimal() or not 1 <= int(rest) <= len(blocks):
        here = f"the last answer has {count(len(blocks), 'code block')}" if blocks else "the last answer has no code"
        raise UsageError(f"no code block {rest}: {here}", hint="/copy copies the whole answer")
    chat.say(copy_text(blocks[int(rest) - 1], chat.terminal))


ANSWERS = (
    Command(
        ("/regen", "/retry"),
        "",
        "regenerate the last answer",
        _regen,
        unavailable=needs_user_message("Nothing to regenerate."),
        synonyms=("/redo", "/regenerate"),
    ),
    Command(
        ("/continue",),
        "",
        "continue the last answer",
        _continue,
        unavailable=lambda chat: None if chat.session.answered or chat.session.has_results else "Nothing to continue.",
        details="For an answer that was stopped by Ctrl-C or cut by max_tokens, or whose calls were.",
    ),
    Command(
        ("/copy",),
        "[N]",
        "copy the last answer, or its N-th code block, to the clipboard",
        _copy,
        unavailable=needs_answer("Nothing to copy."),
        example="/copy 1",
        synonyms=("/clip",),
    ),
)
