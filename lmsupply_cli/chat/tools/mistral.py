"""Mistral 7B v0.3 and Nemo: `[TOOL_CALLS]` and a list of calls. Their ids have nine letters and digits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.tools.family import Names, ToolFormatter, Tools
from lmsupply_cli.chat.tools.grammar import Marks, Offer, answer, bodies, several
from lmsupply_cli.chat.tools.parsing import AnswerParser, JsonCalls

_MARK = "[TOOL_CALLS]"
_ID = re.compile(r"(?:call_)?([A-Za-z0-9]{9})")


class Mistral:
    name = "mistral"
    native = True
    parallel = True
    marks: tuple[str, ...] = (_MARK,)
    ends: tuple[str, ...] = ("</s>",)

    def __init__(self, formatter: ToolFormatter) -> None:
        self._formatter = formatter

    def render(self, messages: Sequence[ChatMessage], tools: Tools) -> str:
        return self._formatter.render([_with_short_ids(message) for message in messages], tools)

    def grammar(self, offer: Offer, marks: Marks) -> str:
        """A model may write an id; ours is used."""
        body = several("body", offer.most, between=", ")
        calls = [
            f'calls: {marks.symbol(_MARK)} " "? "[" {body} "]"',
            *bodies(offer.tools, "arguments", after="id?"),
            'id: ", \\"id\\": " ID',
            'ID: /"[A-Za-z0-9]{9}"/',
        ]
        return answer(offer, marks, calls, excluded=self.marks)

    def parser(self, guided: Names = ()) -> AnswerParser:
        return JsonCalls(_MARK, starts=[_MARK] if guided else ())


def _with_short_ids(message: ChatMessage) -> ChatMessage:
    calls = tuple(replace(call, id=short_id(call.id)) for call in message.tool_calls)
    answers = short_id(message.tool_call_id) if message.tool_call_id else ""
    return replace(message, tool_calls=calls, tool_call_id=answers)


def short_id(call_id: str) -> str:
    """The nine characters of an id of ours; of a foreign one, nine that stand for it always."""
    if found := _ID.fullmatch(call_id):
        return found[1]
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]
