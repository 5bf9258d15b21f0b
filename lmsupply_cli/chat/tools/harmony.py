"""gpt-oss (harmony): a call is a message of the channel commentary whose recipient is `functions.NAME`; one an answer.

`<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.add
<|constrain|>json<|message|>{"a": 1}<|call|>`, on one line; the recipient may stand before the channel too, as the
template writes it. The thought before a call stays in the history until the final answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.reasoning import CHANNEL, ENDS, MESSAGE, START
from lmsupply_cli.chat.tools.family import Names, ToolFormatter, Tools, one_call_each
from lmsupply_cli.chat.tools.grammar import Marks, Offer, arguments, literal, without
from lmsupply_cli.chat.tools.parsing import AnswerParser, CallArguments, new_call_id
from lmsupply_cli.encoding import partial_match
from lmsupply_cli.events import AnswerPiece, ReasoningDelta, TextDelta

_CONSTRAIN, _END = "<|constrain|>", "<|end|>"
_MARKS = (CHANNEL, MESSAGE, START, _CONSTRAIN, *ENDS)
_MOST_ASIDES = 8  # thoughts and remarks before the call or the answer: a weak model goes on without end
_RECIPIENT = re.compile(r"\bto=functions\.(\S+)")


class Harmony:
    name = "harmony"
    native = True
    parallel = False
    marks: tuple[str, ...] = _MARKS
    ends: tuple[str, ...] = ("<|call|>", "<|return|>")

    def __init__(self, formatter: ToolFormatter) -> None:
        self._formatter = formatter

    def render(self, messages: Sequence[ChatMessage], tools: Tools) -> str:
        return self._formatter.render([_one_thought(message) for message in one_call_each(messages)], tools)

    def grammar(self, offer: Offer, marks: Marks) -> str:
        """Some thoughts and remarks, then the final answer or a call."""
        channel, message, start = marks.symbol(CHANNEL), marks.symbol(MESSAGE), marks.symbol(START)
        last = (["call"] if offer.tools else []) + ([] if offer.must else ["final"])
        rules = [
            f"start: aside{{0,{_MOST_ASIDES}}} ({' | '.join(last)})",
            f'aside: {channel} ("analysis" | "commentary") {message} TEXT? {marks.symbol(_END)} {start} "assistant"',
            f"TEXT: {without(*_MARKS)}",
        ]
        if not offer.must:
            rules.append(f'final: {channel} "final" {message} {"guided" if offer.guided else "TEXT?"}')
        if offer.guided and not offer.must:
            rules.append(f"guided: {offer.guided}")
        if offer.tools:
            form = f'{marks.symbol(_CONSTRAIN)}? "json" {message}'
            rules.append("call: " + " | ".join(f"call_{at}" for at in range(len(offer.tools))))
            for at, (name, _) in enumerate(offer.tools):
                inside = f"{channel} {literal(f'commentary to=functions.{name} ')}"
                before = f'{literal(f" to=functions.{name}")} {channel} "commentary "'
                rules.append(f"call_{at}: ({inside} | {before}) {form} args_{at}")
            rules += arguments(offer.tools)
        return "\n".join(rules) + "\n"

    def parser(self, guided: Names = ()) -> AnswerParser:
        return HarmonyParser(guided=bool(guided))


def _one_thought(message: ChatMessage) -> ChatMessage:
    """The template refuses a thought and a text before a call; both are what the model said before it."""
    if not (message.tool_calls and message.reasoning and message.content):
        return message
    return replace(message, reasoning=f"{message.reasoning}\n\n{message.content}", content="")


class HarmonyParser:
    """An AnswerParser: the final channel is text, a recipient makes a call, all else is reasoning."""

    def __init__(self, *, guided: bool = False, new_id: Callable[[], str] = new_call_id) -> None:
        """`guided`: the final channel is the last one, and may hold anything."""
        self._new_id, self._guided = new_id, guided
        self._header: str | None = ""  # None: in a body
        self._channel = "final"
        self._held = ""
        self._count = 0
        self._call: CallArguments | None = None

    def push(self, text: str) -> Iterator[AnswerPiece]:
        self._held += text
        while self._held:
            if self._guided and not self._call and self._header is None and self._channel == "final":
                yield from self.flush()
                return
            if self._call:
                pieces, rest = self._call.push(self._held)
                yield from pieces
                self._held = rest or ""
                if rest is None:
                    return
                self._call, self._header = None, ""
                continue
            at, mark = min(((i, m) for m in _MARKS if (i := self._held.find(m)) >= 0), default=(-1, ""))
            if at < 0:
                keep = max(partial_match(self._held, mark) for mark in _MARKS)
                yield from self._take(self._held[: len(self._held) - keep])
                self._held = self._held[len(self._held) - keep :]
                return
            yield from self._take(self._held[:at])
            self._held = self._held[at + len(mark) :]
            yield from self._pass(mark)

    def flush(self) -> Iterator[AnswerPiece]:
        held, self._held = self._held, ""
        if not self._call:
            yield from self._take(held)

    def _pass(self, mark: str) -> Iterator[AnswerPiece]:
        """A mark: the end of a header, or of a body."""
        if mark != MESSAGE:
            self._header = (self._header or "") + " "
            return
        header, self._header = self._header or "", None
        if found := _RECIPIENT.search(header):
            self._call = CallArguments(self._count, found[1], self._new_id)
            self._count += 1
            yield self._call.begin()
            return
        words = header.split()
        self._channel = next((word for word in words if word in ("analysis", "commentary", "final")), "final")

    def _take(self, text: str) -> Iterator[AnswerPiece]:
        if self._header is not None:
            self._header += text
        elif text:
            yield TextDelta(text) if self._channel == "final" else ReasoningDelta(text)
