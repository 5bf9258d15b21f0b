"""Which of a tokenizer's added tokens steer the model, and how no user text becomes one.

Added tokens are more than that: white space, HTML tags and other frequent text have tokens of their own in some
vocabularies (Gemma, GPT-NeoX), and are ordinary text.

A tokenizer turns every control string it meets into the control token. So a private-use character, drawn at random,
goes inside each control string that stands in a message; any template may then be rendered; afterwards the text is
split at that character and encoded piece by piece, and no piece holds the whole string.

A thought that begins an assistant's message keeps its `<think>` and `</think>`: the model wrote them, and many
templates look for them to leave old thoughts out.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.reasoning import CLOSE, OPEN
from lmsupply_cli.encoding import encode_inside
from lmsupply_cli.events import ToolCall

_FORM = re.compile(r"<\|.*\|>|<｜.*｜>", re.DOTALL)
_KNOWN = frozenset(
    {
        "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>",
        "<answer>", "</answer>", "<s>", "</s>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>",
        "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]",
    }
)  # fmt: skip


def control_strings(
    added_tokens: Iterable[Mapping[str, Any]], template: str = "", special: Iterable[str] = ()
) -> frozenset[str]:
    """The contents of those that are special, that the chat template writes, or that are known to steer; `special`: the
    texts of bos_token, eos_token and others. White space is never among them."""
    named = frozenset(special)
    return frozenset(
        content
        for row in added_tokens
        if (content := row["content"]).replace("▁", " ").strip()
        and (
            row.get("special")
            or content in named
            or content in _KNOWN
            or _FORM.fullmatch(content)
            or (content in template and len(content) > 1 and not content.isalnum())
        )
    )


class ControlTokenEscaper:
    """Puts a sentinel into the control strings of messages, and takes it out of what was rendered."""

    def __init__(self, control_strings: Iterable[str], *, avoid: str = "", sentinel: str = "") -> None:
        """`avoid`: text that must not contain the sentinel; `sentinel`: the one to use, where it was drawn before."""
        # in any case: a template may change it
        strings = sorted((s for s in control_strings if len(s) > 1), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, strings)), re.IGNORECASE) if strings else None
        self.sentinel = sentinel or chr(0xE000 + secrets.randbelow(0x1900))
        while self.sentinel in avoid:
            self.sentinel = sentinel or chr(0xE000 + secrets.randbelow(0x1900))

    def escape(self, text: str) -> str:
        """`text` with the sentinel inside every control string, also in those that overlap."""
        if self._control is None:
            return text
        pieces, rest = [], text
        while match := self._control.search(rest):
            cut = match.start() + 1
            pieces.append(rest[:cut])
            rest = rest[cut:]
        return self.sentinel.join([*pieces, rest])

    def messages(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        return [
            replace(
                m,
                content=self._answer(m.content) if m.role is ChatRole.ASSISTANT else self.escape(m.content),
                reasoning=self.escape(m.reasoning),
                tool_calls=tuple(self._call(call) for call in m.tool_calls),
            )
            for m in messages
        ]

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it escaped, the names of an object's members included."""
        if isinstance(value, str):
            return self.escape(value)
        if isinstance(value, Mapping):
            return {self.escape(str(name)): self.value(one) for name, one in value.items()}
        return [self.value(one) for one in value] if isinstance(value, (list, tuple)) else value

    def _call(self, call: ToolCall) -> ToolCall:
        """Parsed first: within JSON text a control string may be written in another way."""
        arguments = json.dumps(self.value(call.values), ensure_ascii=False)
        return replace(call, name=self.escape(call.name), arguments=arguments)

    def _answer(self, text: str) -> str:
        """An assistant's message, with the marks of a leading thought as they are."""
        thought, close, rest = text.partition(CLOSE)
        if not close:
            return self.escape(text)
        before, opening, inner = thought.partition(OPEN)
        if not opening or before.strip():
            return self.escape(thought) + close + self.escape(rest)
        return before + opening + self.escape(inner) + close + self.escape(rest)

    def plain(self, rendered: str) -> str:
        return rendered.replace(self.sentinel, "")

    def encode(self, rendered: str, encode: Callable[[str], list[int]]) -> list[int]:
        first, *others = rendered.split(self.sentinel)
        ids = encode(first) if first else []
        for piece in filter(None, others):
            ids += encode_inside(piece, encode)
        return ids
