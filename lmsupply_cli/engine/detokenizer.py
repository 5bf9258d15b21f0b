"""Text from ids that arrive one by one, without half characters.

The engine's own stream never flushes an incomplete character and swallows the one after a
broken one. Here a short window is decoded and the difference shown, as vLLM does: the ids
before the window keep spaces right, and text waits while it ends in U+FFFD. A character has
at most four bytes, so at most four tokens; what is longer incomplete is broken and is shown
as U+FFFD, with nothing after it lost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

REPLACEMENT = "\ufffd"
_LONGEST = 4


class Detokenizer:
    """`decode` turns ids into text; it may drop or replace what is incomplete. `hidden`: ids that have no text."""

    def __init__(self, decode: Callable[[Sequence[int]], str], hidden: Collection[int] = ()) -> None:
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
        """What is left at the end, an incomplete character as U+FFFD."""
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
