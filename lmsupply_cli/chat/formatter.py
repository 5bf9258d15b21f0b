"""Which prompt format a model gets, and the prompt itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.segments import Defuser
from lmsupply_cli.chat.spoken import Spoken


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
    `stop_ids`: tokens that end an answer besides those of the model's config.
    """

    text: str
    ids: tuple[int, ...]
    stop: tuple[str, ...]
    stop_ids: frozenset[int] = frozenset()
    marked: str = ""
    mark: str = ""


def make_prompt(
    messages: Sequence[ChatMessage],
    formatter: ChatFormatter,
    *,
    control_strings: Collection[str],
    encode: Callable[[str], list[int]],
    begun: str = "",
    spoken: Spoken | None = None,
) -> Prompt:
    """`begun`: text that the answer starts with; `spoken`: what is in the cache, whose ids are used again."""
    texts = "".join([begun, *(m.content + m.reasoning for m in messages)])
    mark = spoken.mark if spoken and spoken.mark not in texts else ""
    defuser = Defuser(control_strings, avoid=texts, mark=mark)
    rendered = formatter.render(defuser.messages(messages)) + defuser.defuse(begun)
    known = spoken.match(rendered, control_strings) if spoken and mark else None
    before, at = known or ((), 0)
    ids = (*before, *defuser.encode(rendered[at:], encode))
    stop_ids = {
        found[0] for text in formatter.stop_tokens if text in control_strings and len(found := encode(text)) == 1
    }
    return Prompt(defuser.plain(rendered), ids, formatter.stop, frozenset(stop_ids), rendered, defuser.mark)


def make_raw_prompt(text: str, *, bos_id: int | None, encode: Callable[[str], list[int]]) -> Prompt:
    """Text as it stands, control tokens included, after the token that begins a sequence."""
    ids = encode(text)
    if bos_id is not None and ids[:1] != [bos_id]:
        ids = [bos_id, *ids]
    return Prompt(text, tuple(ids), ())
