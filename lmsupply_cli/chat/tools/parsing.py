"""Tool calls in an answer that arrives in pieces, cut anywhere: text, and calls of which nothing is shown as text.

Calls are JSON objects, `{"name": …, "arguments": {…}}`, after a mark or from the start of the answer. A call ends where
its object ends, so a mark within its strings is one of its characters.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from lmsupply_cli.chat.reasoning import State, ThinkSplitter
from lmsupply_cli.encoding import partial_match
from lmsupply_cli.events import AnswerPiece, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_BARE = re.compile(r'\s*\{\s*"name"')
_BARE_BEGUN = re.compile(r'\s*(?:\{\s*(?:"(?:n(?:a(?:me?)?)?)?)?)?')
_ALPHABET = string.ascii_letters + string.digits


def new_call_id() -> str:
    """As OpenAI's; its last nine characters are an id as Mistral's models want it."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(9))


class AnswerParser(Protocol):
    """One answer."""

    def push(self, text: str) -> Iterator[AnswerPiece]:
        """What of the text so far can be told apart."""

    def flush(self) -> Iterator[AnswerPiece]:
        """What was held back, at the end; half a call is dropped."""


class ObjectEnd:
    """Finds the end of a JSON object in text that arrives in pieces and begins with its brace."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False

    def find(self, text: str) -> int:
        """The index after its closing brace, -1 while it goes on."""
        for at, char in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = char == "\\", char != '"'
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if not self._depth:
                    return at + 1
        return -1


class CallArguments:
    """The arguments of one call: gives its pieces, then the call."""

    def __init__(self, index: int, name: str, new_id: Callable[[], str]) -> None:
        self._index, self._name, self._id = index, name, new_id()
        self._text, self._end = "", ObjectEnd()

    def begin(self) -> AnswerPiece:
        """The piece that announces it."""
        return ToolCallDelta(self._index, self._id, self._name)

    def push(self, text: str) -> tuple[list[AnswerPiece], str | None]:
        """(pieces, the text behind the arguments), None while they go on."""
        end = self._end.find(text)
        part = text if end < 0 else text[:end]
        self._text += part
        pieces: list[AnswerPiece] = [ToolCallDelta(self._index, self._id, self._name, part)] if part else []
        if end < 0:
            return pieces, None
        return [*pieces, ToolCall(self._id, self._name, self._text)], text[end:]


class JsonCalls:
    """An AnswerParser for calls that are JSON objects."""

    def __init__(
        self,
        mark: str = "",
        *,
        bare: bool = False,
        starts: Collection[str] = (),
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        """`mark`: what calls begin with; `bare`: an answer that begins as a call is one, without a mark; `starts`: an
        answer that begins with none of these is text, whatever it holds."""
        self._mark, self._starts, self._new_id = mark, tuple(starts), new_id
        self._state = "only" if starts else "start" if bare else "text"
        self._held = ""
        self._count = 0
        self._call: CallArguments | None = None

    def push(self, text: str) -> Iterator[AnswerPiece]:
        self._held += text
        if self._state in ("start", "only"):
            self._state = self._begun()
        if self._state == "text":
            yield from self._show()
        elif self._state == "all text":
            yield from self.flush()
        if self._state == "calls":
            yield from self._read()

    def _begun(self) -> str:
        """The state, now that there is more of the beginning."""
        if self._state == "start":
            if _BARE.match(self._held):
                return "calls"
            return "start" if _BARE_BEGUN.fullmatch(self._held) else "text"
        begun = self._held.lstrip()
        if begun.startswith(self._starts):
            return "calls"
        return "only" if any(start.startswith(begun) for start in self._starts) else "all text"

    def flush(self) -> Iterator[AnswerPiece]:
        if self._state != "calls" and self._held:
            yield TextDelta(self._held)
        self._held = ""

    def _show(self) -> Iterator[AnswerPiece]:
        """Text up to a mark; the white space before one is left out."""
        before, found, rest = self._held.partition(self._mark) if self._mark else (self._held, "", "")
        if found:
            self._state, self._held, text = "calls", rest, before.rstrip()
        else:
            text = before[: len(before) - (partial_match(before, self._mark) if self._mark else 0)]
            text = text.rstrip() if self._mark else text
            self._held = before[len(text) :]
        if text:
            yield TextDelta(text)

    def _read(self) -> Iterator[AnswerPiece]:
        """Calls; what stands between them is their form."""
        while self._held:
            if self._call is None:
                begun = self._held.find("{")
                self._held = self._held[begun:] if begun >= 0 else ""
                head = _HEAD.match(self._held)
                if not head:
                    return
                self._call = CallArguments(self._count, head[1], self._new_id)
                self._count += 1
                yield self._call.begin()
                self._held = self._held[head.end() :]
            pieces, rest = self._call.push(self._held)
            yield from pieces
            self._held = rest or ""
            if rest is None:
                return
            self._call = None


class AfterThoughts:
    """An AnswerParser for a model that may think first."""

    def __init__(self, state: State, calls: AnswerParser) -> None:
        """`state`: where the prompt leaves it."""
        self._splitter, self._calls = ThinkSplitter(state, retracts=False), calls

    def push(self, text: str) -> Iterator[AnswerPiece]:
        for piece in self._splitter.push(text):
            yield from self._take(piece.kind, piece.text)

    def flush(self) -> Iterator[AnswerPiece]:
        for piece in self._splitter.flush():
            yield from self._take(piece.kind, piece.text)
        yield from self._calls.flush()

    def _take(self, kind: str, text: str) -> Iterator[AnswerPiece]:
        if kind == "reasoning":
            yield ReasoningDelta(text)
        else:
            yield from self._calls.push(text)
