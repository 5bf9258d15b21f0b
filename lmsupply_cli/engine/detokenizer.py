"""Text from ids that arrive one by one, without half characters.

What is shown, joined, is what the model's tokenizer decodes from all ids at once, and a character is shown as soon as
its last byte is there. A broken character becomes U+FFFD, and what follows it is kept.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from lmsupply_cli.engine.token_bytes import DecodingRules

REPLACEMENT = "\ufffd"
_LONGEST = 4


class Detokenizer(Protocol):
    """One answer."""

    def push(self, token: int) -> str:
        """The text that is complete with this token; "" while a character is incomplete."""

    def flush(self) -> str:
        """What is left at the end, an incomplete character as U+FFFD."""


class ByteDetokenizer:
    """For tokenizers whose tokens stand for bytes.

    It differs from the library in one case: in a run of byte tokens that is no UTF-8, SentencePiece decoders replace
    every byte, also those of whole characters before the broken one. Those are shown here, since they were shown
    before it was known.
    """

    def __init__(
        self,
        rules: DecodingRules,
        token_of: Callable[[int], str | None],
        hidden: Collection[int] = (),
        *,
        continues: bool = False,
    ) -> None:
        """`token_of`: the token of an id as the vocabulary writes it; `hidden`: ids that are not shown; `continues`:
        the text goes on with another one, so a space at its start counts."""
        self._rules, self._token_of, self._hidden = rules, token_of, hidden
        self._strip = 0 if continues else rules.strip
        self._first_drops = "" if continues else rules.first_drops
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = b""  # byte tokens of an incomplete character

    def push(self, token: int) -> str:
        if token in self._hidden or (written := self._token_of(token)) is None:
            return ""
        if self._first_drops:
            written = written.replace(self._first_drops, "")
            self._first_drops = ""
        data = self._rules.bytes_of(written)
        if self._rules.byte_level:
            return self._utf8.decode(data)
        if self._rules.is_byte(written):
            return self._stripped(self._byte(data))
        return self._stripped(self._broken() + data.decode())

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True) if self._rules.byte_level else self._stripped(self._broken())

    def _byte(self, data: bytes) -> str:
        before, self._held = self._held, self._held + data
        try:
            text = self._held.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                return ""
            self._held = b""  # a byte that cannot follow: those before it are broken, one U+FFFD each
            return REPLACEMENT * len(before) + (self._byte(data) if before else REPLACEMENT)
        self._held = b""
        return text

    def _broken(self) -> str:
        held, self._held = self._held, b""
        return REPLACEMENT * len(held)

    def _stripped(self, text: str) -> str:
        while self._strip and text.startswith(" "):
            text = text[1:]
            self._strip -= 1
        if text:
            self._strip = 0
        return text


class WindowDetokenizer:
    """For any tokenizer that decodes lists of ids. A short window is decoded and the difference shown, as vLLM does:
    the ids before the window keep spaces right, and text waits while it ends in U+FFFD. A character has at most four
    bytes, so at most four tokens; what is longer incomplete is broken."""

    def __init__(self, decode: Callable[[Sequence[int]], str], hidden: Collection[int] = ()) -> None:
        """`decode` may drop or replace what is incomplete. `hidden`: ids that have no text."""
        self._decode = decode
        self._hidden = hidden
        self._before: list[int] = []  # shown already; context for spaces
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        if token in self._hidden:
            return self.flush()
        self._pending.append(token)
        text = self._text(self._pending)
        if text and not text.endswith(REPLACEMENT):
            return self._show(text, len(self._pending))
        if len(self._pending) > _LONGEST:
            return self._break()
        return ""

    def flush(self) -> str:
        out = ""
        while self._pending:
            out += self._break()
        return out

    def _text(self, ids: Sequence[int]) -> str:
        shown = self._decode(self._before) if self._before else ""
        return self._decode([*self._before, *ids])[len(shown) :]

    def _show(self, text: str, count: int) -> str:
        self._before, self._pending = self._pending[:count], self._pending[count:]
        return text

    def _break(self) -> str:
        """Give up on the first pending token: show it alone, then what follows if it is whole."""
        first, rest = self._pending[0], self._pending[1:]
        out = self._decode([first]) or REPLACEMENT
        self._before, self._pending = [], []
        for token in rest:
            out += self.push(token)
        return out
