"""User text can never become a control token.

A tokenizer turns every control string it meets into the control token. So a private-use character, drawn at random,
goes inside each control string that stands in a message; any template may then be rendered; afterwards the text is
split at that character and encoded piece by piece, and no piece holds the whole string.

A thought that begins an assistant's message keeps its `<think>` and `</think>`: the model wrote them, and many
templates look for them to leave old thoughts out.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.reasoning import CLOSE, OPEN
from lmsupply_cli.encoding import encode_inside


class Defuser:
    """Marks control strings in messages, and takes the marks out of what was rendered."""

    def __init__(self, control_strings: Iterable[str], *, avoid: str = "", mark: str = "") -> None:
        """`avoid`: text that the mark must not occur in; `mark`: the one to use, where it was drawn before."""
        # in any case: a template may change it
        strings = sorted((s for s in control_strings if len(s) > 1), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, strings)), re.IGNORECASE) if strings else None
        self.mark = mark or chr(0xE000 + secrets.randbelow(0x1900))
        while self.mark in avoid:
            self.mark = mark or chr(0xE000 + secrets.randbelow(0x1900))

    def defuse(self, text: str) -> str:
        """`text` with the mark inside every control string, also in those that overlap."""
        if self._control is None:
            return text
        pieces, rest = [], text
        while match := self._control.search(rest):
            cut = match.start() + 1
            pieces.append(rest[:cut])
            rest = rest[cut:]
        return self.mark.join([*pieces, rest])

    def messages(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        return [
            replace(
                m,
                content=self._answer(m.content) if m.role is ChatRole.ASSISTANT else self.defuse(m.content),
                reasoning=self.defuse(m.reasoning),
            )
            for m in messages
        ]

    def _answer(self, text: str) -> str:
        """An assistant's message, with the marks of a leading thought as they are."""
        thought, close, rest = text.partition(CLOSE)
        if not close:
            return self.defuse(text)
        before, opening, inner = thought.partition(OPEN)
        if not opening or before.strip():
            return self.defuse(thought) + close + self.defuse(rest)
        return before + opening + self.defuse(inner) + close + self.defuse(rest)

    def plain(self, rendered: str) -> str:
        return rendered.replace(self.mark, "")

    def encode(self, rendered: str, encode: Callable[[str], list[int]]) -> list[int]:
        first, *others = rendered.split(self.mark)
        ids = encode(first) if first else []
        for piece in filter(None, others):
            ids += encode_inside(piece, encode)
        return ids
