"""The calls of an answer: each is shown and confirmed, and its result is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from lmsupply_cli.events import ToolCall
from lmsupply_cli.generation.tools import bounded
from lmsupply_cli.render.sanitize import one_line
from lmsupply_cli.repl.keys import forget_typed, quiet_keys
from lmsupply_cli.toolbox.toolbox import ChatTool
from lmsupply_cli.units import count, shortened

if TYPE_CHECKING:
    from lmsupply_cli.repl.chat import Chat

_QUESTION = "Run it? [y]es, [a]lways in this chat, [n]o:"
_SHOWN_VALUE = 2000  # characters of an argument
_SHOWN_RESULT = 200
_LEAST_TOKENS = 64
_NOT_ALLOWED = "error: the user did not allow this call"
_CANCELLED = "error: the user cancelled this call"
_NOT_RUN = "error: this call was not run"


def run_calls(chat: Chat) -> bool:
    """Give every pending call its result; whether the model goes on. Ctrl-C ends the call and what comes after it."""
    calls = chat.session.pending_calls
    for call in calls:
        try:
            text = _result(chat, call)
        except KeyboardInterrupt:
            chat.session.add_result(call.id, _CANCELLED)
            for other in chat.session.pending_calls:
                chat.session.add_result(other.id, _NOT_RUN)
            chat.say_aside("(call cancelled; /continue lets the model continue without it)\n")
            return False
        chat.session.add_result(call.id, fitting(chat, text, len(calls)))
    return True


def _result(chat: Chat, call: ToolCall) -> str:
    """Raises KeyboardInterrupt."""
    box = chat.world.toolbox
    tool = box.find(call.name)
    chat.say(shown_call(call, tool.source if tool else "", chat.terminal.width))
    if tool is None:
        chat.say_aside("not run: there is no such tool any more")
        return f"error: there is no tool {call.name}"
    if tool.asks and not _confirmed(chat, tool):
        return _NOT_ALLOWED
    status = chat.terminal.status()
    status.show(f"running {tool.name} … Ctrl-C cancels it")
    try:
        with quiet_keys(chat.terminal.stdin):
            text = box.run(tool, call)
    finally:
        status.clear()
    chat.say_aside(shown_result(text))
    return text


def _confirmed(chat: Chat, tool: ChatTool) -> bool:
    """Nothing that was typed before the question answers it. Raises KeyboardInterrupt."""
    if not chat.world.can_ask:
        chat.say_aside(f"not run: there is no terminal to ask on; --allow-tool {tool.name} runs it without asking")
        return False
    forget_typed(chat.terminal.stdin)
    answer = chat.terminal.choose(_QUESTION)
    tool.always = tool.always or answer == "a"
    return answer in ("y", "a")


def shown_call(call: ToolCall, source: str, width: int) -> str:
    """The name and every argument; JSON leaves no control characters in them. A long argument says how much of it is not
    shown."""
    head = f"call: {one_line(call.name)}" + (f" of {one_line(source)}" if source else "")
    values = call.values
    line = f"{head} {_json(values)}" if values else head
    if len(line) < width:
        return line
    return "\n".join([head, *(f"  {_json(name)}: {_cut(_json(value))}" for name, value in values.items())])


def shown_result(text: str) -> str:
    short = shortened(one_line(text.strip()), _SHOWN_RESULT)
    if short == text.strip():
        return f"result: {short}" if short else "result: (nothing)"
    return f"result: {short} ({count(len(text), 'character')})"


def fitting(chat: Chat, text: str, calls: int) -> str:
    """A result such that those of an answer take a quarter of the context at most."""
    most = max(_LEAST_TOKENS, chat.session.context_tokens // 4 // calls)
    counted: Callable[[str], int] = chat.session.prompter.count_tokens
    kept = bounded(text)
    characters = len(kept)
    while (tokens := counted(kept)) > most and characters > 1:
        characters = max(1, min(characters - 1, characters * most // tokens))
        kept = bounded(text, limit=characters)
        if characters <= _LEAST_TOKENS:
            break
    return kept


def _json(value: object) -> str:
    return one_line(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    left = len(text) - _SHOWN_VALUE
    return text if left <= 0 else f"{text[:_SHOWN_VALUE]}… ({count(left, 'more character')})"
