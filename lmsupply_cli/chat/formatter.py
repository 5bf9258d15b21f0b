"""Which prompt format a model gets, and the prompt itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmsupply_cli.chat.cached_prompt import CachedPrompt
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.reasoning import Markers
from lmsupply_cli.chat.segments import Defuser


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

    `marked`: the text with the marks that keep control strings of messages apart, `mark` their character;
    `stop_ids`: tokens that end an answer besides those of the model's config; `continues`: the answer goes on with this
    text, so a space at its start counts; `answer_prefix`: what of `text` belongs to the answer; `control`, `markers`: the format's control strings and marks of thoughts.
    """

    text: str
    ids: tuple[int, ...]
    stop: tuple[str, ...]
    stop_ids: frozenset[int] = frozenset()
    marked: str = ""
    mark: str = ""
    continues: bool = False
    answer_prefix: str = ""
    control: frozenset[str] = frozenset()
    markers: Markers | None = None


@dataclass(frozen=True)
class PromptFormat:
    """How prompts are made for a model: `control` strings steer it, `markers` mark its thoughts, `begin_ids` and their
    text `begin` are what its tokenizer puts before a raw text."""

    formatter: ChatFormatter
    control: frozenset[str] = frozenset()
    markers: Markers | None = None
    begin_ids: tuple[int, ...] = ()
    begin: str = ""

    def text(self, messages: Sequence[ChatMessage]) -> str:
        """The exact text that the model would read."""
        defuser = Defuser(self.control, avoid=_texts(messages))
        return defuser.plain(self.formatter.render(defuser.messages(messages)))

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
        mark = cached.mark if cached and cached.mark not in texts else ""
        defuser = Defuser(self.control, avoid=texts, mark=mark)
        rendered = self.formatter.render(defuser.messages(messages)) + defuser.defuse(answer_prefix)
        known = cached.reusable_prefix(rendered, self.control) if cached and mark else None
        before, at = known or ((), 0)
        return Prompt(
            text=defuser.plain(rendered),
            ids=(*before, *defuser.encode(rendered[at:], encode)),
            stop=self.formatter.stop,
            stop_ids=self._stop_ids(encode),
            marked=rendered,
            mark=defuser.mark,
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
        defuser = Defuser(self.control, avoid=text)
        return defuser.encode(defuser.defuse(text), encode)

    def _stop_ids(self, encode: Callable[[str], list[int]]) -> frozenset[int]:
        known = (text for text in self.formatter.stop_tokens if text in self.control)
        return frozenset(ids[0] for text in known if len(ids := encode(text)) == 1)


def answered(
    prompt: Prompt, answer: Sequence[tuple[str, bool]], ids: Sequence[int], cached: CachedPrompt | None
) -> CachedPrompt | None:
    """What the cache stands for after `prompt` was answered with `ids`; None where control strings were not kept apart.
    `answer`: pieces of its text, and whether each is a control token."""
    if not prompt.marked or any(prompt.mark in text for text, _ in answer):
        return None
    before = cached if cached and cached.mark == prompt.mark else CachedPrompt("", (), prompt.mark)
    defuser = Defuser(prompt.control, mark=prompt.mark)
    text = "".join(piece if control else defuser.defuse(piece) for piece, control in answer)
    return before.extended(prompt.marked, prompt.ids, text, ids)


def _texts(messages: Sequence[ChatMessage]) -> str:
    return "".join(m.content + m.reasoning for m in messages)
