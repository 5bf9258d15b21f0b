"""Hermes's form, which Qwen2.5 and Qwen3 use: each call in `<tool_call>…</tool_call>`, several in a row."""

from __future__ import annotations

from collections.abc import Sequence

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.tools.family import Names, ToolFormatter, Tools
from lmsupply_cli.chat.tools.grammar import Marks, Offer, answer, bodies, several
from lmsupply_cli.chat.tools.parsing import AnswerParser, JsonCalls

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class Hermes:
    name = "hermes"
    native = True
    parallel = True
    marks: tuple[str, ...] = (_OPEN, _CLOSE)
    ends: tuple[str, ...] = ("<|im_end|>",)

    def __init__(self, formatter: ToolFormatter) -> None:
        self._formatter = formatter

    def render(self, messages: Sequence[ChatMessage], tools: Tools) -> str:
        return self._formatter.render(messages, tools)

    def grammar(self, offer: Offer, marks: Marks) -> str:
        call = several("call", offer.most, between="\n")
        calls = [
            f"calls: {call}",
            f'call: {marks.symbol(_OPEN)} "\\n" body "\\n" {marks.symbol(_CLOSE)}',
            *bodies(offer.tools, "arguments"),
        ]
        return answer(offer, marks, calls, excluded=self.marks)

    def parser(self, guided: Names = ()) -> AnswerParser:
        return JsonCalls(_OPEN, starts=[_OPEN] if guided else ())
