"""Which prompt format a model gets, and the prompt itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.segments import Defuser


class ChatFormatter(Protocol):
    """Turns messages into the text that a model was trained on."""

    name: str
    stop: tuple[str, ...]  # texts at which an answer in this format ends

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt up to where the assistant's answer begins."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` byte for byte as the model reads it; `ids` in which only the format made control tokens."""

    text: str
    ids: tuple[int, ...]
    stop: tuple[str, ...]


def make_prompt(
    messages: Sequence[ChatMessage],
    formatter: ChatFormatter,
    *,
    control_strings: Iterable[str],
    encode: Callable[[str], list[int]],
) -> Prompt:
    defuser = Defuser(control_strings, avoid="".join(m.content for m in messages))
    rendered = formatter.render(defuser.messages(messages))
    return Prompt(defuser.plain(rendered), tuple(defuser.encode(rendered, encode)), formatter.stop)


def make_raw_prompt(text: str, *, bos_id: int | None, encode: Callable[[str], list[int]]) -> Prompt:
    """Text as it stands, control tokens included, after the token that begins a sequence."""
    ids = encode(text)
    if bos_id is not None and ids[:1] != [bos_id]:
        ids = [bos_id, *ids]
    return Prompt(text, tuple(ids), ())
