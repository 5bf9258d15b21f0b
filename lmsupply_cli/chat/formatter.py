"""Which chat format a model gets, and the prompt itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmsupply_cli.chat.cached_prompt import CachedPrompt
from lmsupply_cli.chat.control import ControlTokenEscaper
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.reasoning import CLOSE, OPEN, Markers, State, thought_state
from lmsupply_cli.chat.tools import tool_family
from lmsupply_cli.chat.tools.family import ToolFamily, check_calls
from lmsupply_cli.chat.tools.grammar import Marks, Offer
from lmsupply_cli.chat.tools.parsing import AfterThoughts, AnswerParser
from lmsupply_cli.chat.tools.spec import ToolRequest
from lmsupply_cli.errors import UsageError


class ChatFormatter(Protocol):
    """Turns messages into the text that a model was trained on."""

    @property
    def name(self) -> str:
        """A short name, as settings and `info` show it."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts at which an answer in this format ends."""

    @property
    def stop_tokens(self) -> tuple[str, ...]:
        """Control strings that end an answer, whatever the model's config says; those unknown to it do nothing."""

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt up to where the assistant's answer begins."""


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """How the answer to one prompt may call tools. `marks`: the family's control strings that the vocabulary has;
    `thought`: where the prompt leaves a reasoning model, None for another one; `guided`: the body of a rule for the text,
    as in `Offer`."""

    request: ToolRequest
    family: ToolFamily
    marks: Marks
    thought: State | None = None
    guided: str = ""

    @property
    def shown(self) -> dict[int, str]:
        """Control tokens that come out as text: the parser looks for them."""
        return {token: mark for mark, token in self.marks.ids.items()}

    def grammar(self, schemas: Mapping[str, str]) -> str:
        """What the answer must follow. `schemas`: of the arguments, by the tool's name, as JSON."""
        request = self.request
        tools = tuple((tool.name, schemas[tool.name]) for tool in request.callable)
        # a model that was not trained on calls, and must make one, does not know when to end
        several = self.family.parallel and (self.family.native or not request.must_call)
        most = request.most_calls if several else 1
        return self.family.grammar(Offer(tools, request.must_call, most, self.thought, self.guided), self.marks)

    def parser(self) -> AnswerParser:
        """For the answer."""
        names = [tool.name for tool in self.request.callable]
        calls = self.family.parser(names if self.guided and not self.request.must_call else ())
        return AfterThoughts(self.thought, calls) if self.thought else calls


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` byte for byte as the model reads it; `ids` in which only the format made control tokens.

    `escaped`: the text with the sentinels inside control strings of messages, `sentinel` their character;
    `stop_ids`: tokens that end an answer besides those of the model's config; `continues`: the answer goes on with this
    text, so a space at its start counts; `answer_prefix`: what of `text` belongs to the answer; `control`, `markers`: the format's control strings and reasoning markers; `tools`: what the
    answer may call, None where it calls nothing.
    """

    text: str
    ids: tuple[int, ...]
    stop: tuple[str, ...]
    stop_ids: frozenset[int] = frozenset()
    escaped: str = ""
    sentinel: str = ""
    continues: bool = False
    answer_prefix: str = ""
    control: frozenset[str] = frozenset()
    markers: Markers | None = None
    tools: ToolTurn | None = None


@dataclass(frozen=True)
class PromptFormat:
    """How prompts are made for a model: `control` strings steer it, `markers` mark its reasoning, `begin_ids` and their
    text `begin` are what its tokenizer puts before a raw text."""

    formatter: ChatFormatter
    control: frozenset[str] = frozenset()
    markers: Markers | None = None
    begin_ids: tuple[int, ...] = ()
    begin: str = ""

    @property
    def can_think(self) -> bool:
        """Whether the model thinks before it answers, or can be made to."""
        return self.markers is not None or getattr(self.formatter, "can_think", False)

    def text(self, messages: Sequence[ChatMessage]) -> str:
        """The exact text that the model would read."""
        check_calls(messages)
        escaper = ControlTokenEscaper(self.control, avoid=_texts(messages))
        return escaper.plain(self._render(messages, escaper, None))

    def chat(
        self,
        messages: Sequence[ChatMessage],
        encode: Callable[[str], list[int]],
        *,
        answer_prefix: str = "",
        cached: CachedPrompt | None = None,
        tools: ToolRequest | None = None,
    ) -> Prompt:
        """`answer_prefix`: text that the answer starts with; `cached`: what is in the cache, whose ids are used
        again; `tools`: what the answer may call. Raises UsageError."""
        if answer_prefix and tools and tools.callable:
            raise UsageError("an answer that has begun cannot call tools", hint="leave out `tools`")
        check_calls(messages)
        tools = tools if tools and tools.tools else None
        texts = answer_prefix + _texts(messages) + _tool_texts(tools)
        sentinel = cached.sentinel if cached and cached.sentinel not in texts else ""
        escaper = ControlTokenEscaper(self.control, avoid=texts, sentinel=sentinel)
        rendered = self._render(messages, escaper, tools) + escaper.escape(answer_prefix)
        turn = self._turn(tools, rendered, encode) if tools and not answer_prefix else None
        known = cached.reusable_prefix(rendered, self.control) if cached and sentinel else None
        before, at = known or ((), 0)
        ends = (*self.formatter.stop_tokens, *(turn.family.ends if turn else ()))
        return Prompt(
            text=escaper.plain(rendered),
            ids=(*before, *escaper.encode(rendered[at:], encode)),
            stop=self.formatter.stop,
            stop_ids=frozenset(self._ids(ends, encode).values()),
            escaped=rendered,
            sentinel=escaper.sentinel,
            continues=bool(answer_prefix),
            answer_prefix=answer_prefix,
            control=self.control,
            markers=self.markers,
            tools=turn,
        )

    @property
    def tools(self) -> ToolFamily:
        """How this format writes tools and calls."""
        return tool_family(self.formatter, self.control)

    def _render(self, messages: Sequence[ChatMessage], escaper: ControlTokenEscaper, tools: ToolRequest | None) -> str:
        """With sentinels inside the control strings of messages and tools."""
        if not tools and not any(m.tool_calls or m.tool_call_id for m in messages):
            return self.formatter.render(escaper.messages(messages))
        shown = [escaper.value(tool.as_dict()) for tool in (tools.shown if tools else ())]
        return self.tools.render(escaper.messages(messages), shown)

    def _turn(self, tools: ToolRequest, rendered: str, encode: Callable[[str], list[int]]) -> ToolTurn:
        family = self.tools
        thinks = self.markers is not None and self.markers.style == "think"
        thought = thought_state(rendered) if thinks else None
        return ToolTurn(tools, family, Marks(self._ids([*family.marks, OPEN, CLOSE], encode)), thought)

    def raw(self, text: str, encode: Callable[[str], list[int]]) -> Prompt:
        """Text as it stands, control tokens included, after what the tokenizer puts before it."""
        ids, begin = encode(text), list(self.begin_ids)
        if begin and ids[: len(begin)] == begin:
            begin = []
        return Prompt((self.begin if begin else "") + text, (*begin, *ids), (), continues=True, control=self.control)

    def plain_tokens(self, text: str, encode: Callable[[str], list[int]]) -> list[int]:
        """The ids of a text in which nothing is a control token, as of a message."""
        escaper = ControlTokenEscaper(self.control, avoid=text)
        return escaper.encode(escaper.escape(text), encode)

    def _ids(self, texts: Iterable[str], encode: Callable[[str], list[int]]) -> dict[str, int]:
        """The token of each text that is a control string of this vocabulary."""
        return {text: ids[0] for text in texts if text in self.control and len(ids := encode(text)) == 1}


def answered(
    prompt: Prompt, answer: Sequence[tuple[str, bool]], ids: Sequence[int], cached: CachedPrompt | None
) -> CachedPrompt | None:
    """What the cache stands for after `prompt` was answered with `ids`; None where control strings were not kept apart.
    `answer`: pieces of its text, and whether each is a control token."""
    if not prompt.escaped or any(prompt.sentinel in text for text, _ in answer):
        return None
    before = cached if cached and cached.sentinel == prompt.sentinel else CachedPrompt("", (), prompt.sentinel)
    escaper = ControlTokenEscaper(prompt.control, sentinel=prompt.sentinel)
    text = "".join(piece if control else escaper.escape(piece) for piece, control in answer)
    return before.extended(prompt.escaped, prompt.ids, text, ids)


def _texts(messages: Sequence[ChatMessage]) -> str:
    return "".join(m.content + m.reasoning + "".join(str(call.values) for call in m.tool_calls) for m in messages)


def _tool_texts(tools: ToolRequest | None) -> str:
    return json.dumps([tool.as_dict() for tool in tools.shown], ensure_ascii=False) if tools else ""
