"""Phi-4-mini: tools within the system message, `<|tool_call|>[…]<|/tool_call|>`, results as messages of the role tool.

Its template knows nothing of calls, so they are written into the message's content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.tools.family import MessageFormatter, Names, Tools, call_text, to_json
from lmsupply_cli.chat.tools.grammar import Marks, Offer, answer, bodies, several
from lmsupply_cli.chat.tools.parsing import AnswerParser, JsonCalls

_OPEN, _CLOSE = "<|tool_call|>", "<|/tool_call|>"
_SYSTEM = "You are a helpful assistant with some tools."


class Phi4Mini:
    name = "phi4-mini"
    native = True
    parallel = True
    marks: tuple[str, ...] = (_OPEN, _CLOSE)
    ends: tuple[str, ...] = ("<|end|>",)

    def __init__(self, formatter: MessageFormatter) -> None:
        self._formatter = formatter

    def render(self, messages: Sequence[ChatMessage], tools: Tools) -> str:
        """The text is what the template gives for the key `tools` of the system message."""
        turns = [_with_calls(message) for message in messages]
        if tools:
            if turns[0].role is not ChatRole.SYSTEM:
                turns.insert(0, ChatMessage.system(_SYSTEM))
            listed = f"<|tool|>{to_json([tool['function'] for tool in tools])}<|/tool|>"
            turns[0] = replace(turns[0], content=turns[0].content + listed)
        return self._formatter.render(turns)

    def grammar(self, offer: Offer, marks: Marks) -> str:
        body = several("body", offer.most, between=", ")
        calls = [
            f'calls: {marks.symbol(_OPEN)} "[" {body} "]" {marks.symbol(_CLOSE)}',
            *bodies(offer.tools, "arguments"),
        ]
        return answer(offer, marks, calls, excluded=self.marks)

    def parser(self, guided: Names = ()) -> AnswerParser:
        return JsonCalls(_OPEN, starts=[_OPEN] if guided else ())


def _with_calls(message: ChatMessage) -> ChatMessage:
    if not message.tool_calls:
        return message
    listed = ", ".join(map(call_text, message.tool_calls))
    return replace(message, content=f"{message.content}{_OPEN}[{listed}]{_CLOSE}", tool_calls=())
