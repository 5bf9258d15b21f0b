"""What a model thinks before it answers, told apart from the answer.

Two ways are in use: `<think>…</think>` in front of the answer (Qwen3, DeepSeek-R1, Phi-4-reasoning), where the
prompt may have opened the thought already; and the channels of gpt-oss, where every message names its channel
and only `final` is for the user.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from lmsupply_cli.encoding import partial_match

Kind = Literal["text", "reasoning", "retract"]
State = Literal["start", "thinking", "after", "text"]
OPEN, CLOSE = "<think>", "</think>"
CHANNEL, MESSAGE, START = "<|channel|>", "<|message|>", "<|start|>"
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ENDS = ("<|end|>", "<|return|>", "<|call|>")


class Piece(NamedTuple):
    """`retract`: what was given as text so far was reasoning, since its end came without a beginning."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Markers:
    """`visible`: control strings that must come out of the detokenizer as text."""

    style: Literal["think", "channels"]
    visible: frozenset[str]


class Splitter(Protocol):
    def push(self, text: str) -> Iterator[Piece]:
        """What of the text so far can be told apart."""

    def flush(self) -> Iterator[Piece]:
        """What was held back, at the end."""


def find_markers(control_strings: Collection[str], template: str = "") -> Markers | None:
    """How this model marks its thoughts; None for one that has no such marks."""
    control = set(control_strings)
    if {CHANNEL, MESSAGE} <= control:
        return Markers("channels", frozenset({CHANNEL, MESSAGE, START, *ENDS} & control))
    if CLOSE in control or CLOSE in template or OPEN in template:
        return Markers("think", frozenset({OPEN, CLOSE} & control))
    return None


def make_splitter(markers: Markers | None, prompt: str) -> Splitter:
    """For the answer to `prompt`, which may end in an opened thought. A model that is not known to mark its thoughts
    may do so all the same: then only an answer that begins with one is split."""
    if markers and markers.style == "channels":
        return ChannelSplitter()
    return ThinkSplitter(thought_state(prompt), retracts=markers is not None)


def thought_state(prompt: str) -> State:
    """Where a prompt leaves the model: before a thought, in one, or behind an empty one."""
    end = prompt.rstrip()
    return "thinking" if end.endswith(OPEN) else "after" if end.endswith(CLOSE) else "start"


class ThinkSplitter:
    """A thought can only be at the start of an answer; white space around its marks is dropped. In an answer that did not
    start with a thought, a mark is text."""

    def __init__(self, state: State = "start", *, retracts: bool = True) -> None:
        """`retracts`: an end without a beginning makes a thought of what came before it."""
        self._state = state
        self._retracts = retracts
        self._held = ""
        self._answer = ""  # the text so far, where an end of a thought may still come
        self._fresh = True  # nothing was shown of this part yet

    def push(self, text: str) -> Iterator[Piece]:
        self._held += text
        while True:
            if self._state == "start":
                stripped = self._held.lstrip()
                if OPEN.startswith(stripped):  # also when it is empty
                    if stripped != OPEN:
                        return
                elif not stripped.startswith(OPEN):
                    self._state = "text"
                    continue
                self._held, self._state, self._fresh = stripped[len(OPEN) :], "thinking", True
            elif self._state == "thinking":
                before, found, rest = self._held.partition(CLOSE)
                if not found:
                    yield from self._show("reasoning", partial_match(self._held, CLOSE))
                    return
                self._held = before.rstrip()
                yield from self._show("reasoning", 0)
                self._held, self._state, self._fresh = rest, "after", True
            else:
                ends = self._retracts and self._state == "text"
                before, found, rest = self._held.partition(CLOSE) if ends else (self._held, "", "")
                if not found:
                    yield from self._show("text", partial_match(self._held, CLOSE) if ends else 0)
                    return
                if _in_code(self._answer + before):
                    self._held = before + CLOSE
                    yield from self._show("text", 0)
                    self._held = rest
                    continue
                self._held = before
                yield from self._show("text", 0)
                yield Piece("retract", "")
                self._held, self._state, self._fresh = rest, "after", True

    def flush(self) -> Iterator[Piece]:
        if self._state == "start":
            self._state = "text"  # no thought came: all of it is the answer
        yield from self._show("reasoning" if self._state == "thinking" else "text", 0)

    def _show(self, kind: Kind, keep: int) -> Iterator[Piece]:
        """All but the last `keep` characters; white space waits at the beginning, and at the end of a thought."""
        text = self._held[: len(self._held) - keep]
        if kind == "reasoning":
            text = text.rstrip()
        self._held = self._held[len(text) :]
        if self._retracts and self._state == "text":
            self._answer += text
        if self._fresh and self._state != "text":
            text = text.lstrip()
        if text:
            self._fresh = False
            yield Piece(kind, text)


class ChannelSplitter:
    """`<|channel|>NAME<|message|>TEXT<|end|>`: `final` is the answer, every other channel reasoning."""

    def __init__(self) -> None:
        self._channel: str | None = "final"  # None: in a header
        self._header = ""
        self._held = ""

    def push(self, text: str) -> Iterator[Piece]:
        self._held += text
        marks = (CHANNEL, MESSAGE, START, *ENDS)
        while self._held:
            at, mark = min(((i, m) for m in marks if (i := self._held.find(m)) >= 0), default=(-1, ""))
            if at < 0:
                keep = max(partial_match(self._held, mark) for mark in marks)
                yield from self._take(self._held[: len(self._held) - keep])
                self._held = self._held[len(self._held) - keep :]
                return
            yield from self._take(self._held[:at])
            self._held = self._held[at + len(mark) :]
            if mark == MESSAGE:
                self._channel = self._header.split()[0] if self._header.split() else "final"
            else:
                self._channel, self._header = None, ""

    def flush(self) -> Iterator[Piece]:
        held, self._held = self._held, ""
        yield from self._take(held)

    def _take(self, text: str) -> Iterator[Piece]:
        if self._channel is None:
            self._header += text
        elif text:
            yield Piece("text" if self._channel == "final" else "reasoning", text)


def _in_code(text: str) -> bool:
    """Whether `text` ends inside a fenced block, or inside a code span of its last line."""
    *lines, last = text.split("\n")
    fence = ""
    for line in lines:
        found = _FENCE.match(line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not line[found.end() :].strip():
            fence = ""
    if fence:
        return True
    opened = ""
    for run in re.findall("`+", last):
        opened = run if not opened else "" if run == opened else opened
    return bool(opened)
