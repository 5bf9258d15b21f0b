"""Llama 3.1 and 3.2: an answer that is one call, as bare JSON. Llama 3.1 may put `<|python_tag|>` before it."""

from __future__ import annotations

from collections.abc import Sequence

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.tools.family import Names, ToolFormatter, Tools, one_call_each
from lmsupply_cli.chat.tools.grammar import BARE, Marks, Offer, answer, bare_bodies, head_of
from lmsupply_cli.chat.tools.parsing import AnswerParser, JsonCalls

_TAG = "<|python_tag|>"


class Llama:
    name = "llama"
    native = True
    parallel = False
    marks: tuple[str, ...] = (_TAG,)
    ends: tuple[str, ...] = ("<|eot_id|>", "<|eom_id|>")

    def __init__(self, formatter: ToolFormatter) -> None:
        self._formatter = formatter

    def render(self, messages: Sequence[ChatMessage], tools: Tools) -> str:
        return self._formatter.render(one_call_each(messages), tools)

    def grammar(self, offer: Offer, marks: Marks) -> str:
        tag = f"{marks.symbol(_TAG)}? " if _TAG in marks.ids else ""
        calls = [f"calls: {tag}body", *bare_bodies(offer, "parameters")]
        return answer(offer, marks, calls, excluded=self.marks, bare=BARE)

    def parser(self, guided: Names = ()) -> AnswerParser:
        starts = [_TAG, *(head_of(name, "parameters") for name in guided)] if guided else []
        return JsonCalls(_TAG, bare=True, starts=starts)
