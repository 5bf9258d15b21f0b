"""For models without a form of their own: the system prompt lists the tools and asks for JSON, which the grammar then
guarantees; results are user messages. Such models were not trained to choose well between a call and an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.tools.family import MessageFormatter, Names, Tools, as_turns, call_text, names_of_calls, to_json
from lmsupply_cli.chat.tools.grammar import BARE, Marks, Offer, answer, bare_bodies, head_of, several
from lmsupply_cli.chat.tools.parsing import AnswerParser, JsonCalls

_INTRO = "You can call these functions. Each line is one, with a JSON schema of its arguments:"
_HOW = """To call a function, answer with a JSON object and nothing else, one on a line for each call:
{"name": "FUNCTION", "arguments": {"ARGUMENT": VALUE}}
You then get the results. If you need no function, answer in plain text."""


class Generic:
    name = "generic"
    native = False
    parallel = True
    marks: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()

    def __init__(self, formatter: MessageFormatter) -> None:
        self._formatter = formatter

    def render(self, messages: Sequence[ChatMessage], tools: Tools) -> str:
        names = names_of_calls(messages)
        turns = [self._turn(together, names) for together in as_turns(messages)]
        if tools:
            listed = "\n".join([_INTRO, *(to_json(tool["function"]) for tool in tools), "", _HOW])
            if turns[0].role is ChatRole.SYSTEM:
                turns[0] = replace(turns[0], content=f"{turns[0].content}\n\n{listed}".lstrip("\n"))
            else:
                turns.insert(0, ChatMessage.system(listed))
        return self._formatter.render(turns)

    def grammar(self, offer: Offer, marks: Marks) -> str:
        calls = [f"calls: {several('body', offer.most)}", *bare_bodies(offer, "arguments")]
        return answer(offer, marks, calls, bare=BARE)

    def parser(self, guided: Names = ()) -> AnswerParser:
        return JsonCalls(bare=True, starts=[head_of(name, "arguments") for name in guided])

    @staticmethod
    def _turn(together: Sequence[ChatMessage], names: dict[str, str]) -> ChatMessage:
        first = together[0]
        if first.role is ChatRole.TOOL:
            results = (f"Result of {names[m.tool_call_id]}:\n{m.content}" for m in together)
            return ChatMessage.user("\n\n".join(results))
        if not first.tool_calls:
            return first
        calls = "\n".join(map(call_text, first.tool_calls))
        return replace(first, content=f"{first.content}\n{calls}".lstrip("\n"), tool_calls=())
