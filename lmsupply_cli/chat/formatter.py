"""Which chat format a model gets, and the prompt itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmsupply_cli.chat.cached_prompt import CachedPrompt
from lmsupply_cli.chat.control import ControlTokenEscaper
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.reasoning import Markers


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
class Prompt:
    """`text` byte for byte as the model reads it; `ids` in which only the format made control tokens.

    `escaped`: the text with the sentinels inside control strings of messages, `sentinel` their character;
    `stop_ids`: tokens that end an answer besides those of the model's config; `continues`: the answer goes on with this
    text, so a space at its start counts; `answer_prefix`: what of `text` belongs to the answer; `control`, `markers`: the format's control strings and reasoning markers.
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
        escaper = ControlTokenEscaper(self.control, avoid=_texts(messages))
        return escaper.plain(self.formatter.render(escaper.messages(messages)))

    def chat(
        self,
        messages: Sequence[ChatMessage],
        encode: Callable[[str], list[int]],
        *,
        answer_prefix: str = "",
        cached: CachedPrompt | None = None,
    ) -> Prompt:
        """`answer_prefix`: text that the answer starts with; `cached`: what is in the cache, whose ids are used
        again."""
        texts = answer_prefix + _texts(messages)
        sentinel = cached.sentinel if cached and cached.sentinel not in texts else ""
        escaper = ControlTokenEscaper(self.control, avoid=texts, sentinel=sentinel)
        rendered = self.formatter.render(escaper.messages(messages)) + escaper.escape(answer_prefix)
        known = cached.reusable_prefix(rendered, self.control) if cached and sentinel else None
        before, at = known or ((), 0)
        return Prompt(
            text=escaper.plain(rendered),
            ids=(*before, *escaper.encode(rendered[at:], encode)),
            stop=self.formatter.stop,
            stop_ids=self._stop_ids(encode),
            escaped=rendered,
            sentinel=escaper.sentinel,
            continues=bool(answer_prefix),
            answer_prefix=answer_prefix,
            control=self.control,
            markers=self.markers,
        )

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

    def _stop_ids(self, encode: Callable[[str], list[int]]) -> frozenset[int]:
        known = (text for text in self.formatter.stop_tokens if text in self.control)
        return frozenset(ids[0] for text in known if len(ids := encode(text)) == 1)


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
    return "".join(m.content + m.reasoning for m in messages)
