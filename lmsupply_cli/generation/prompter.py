"""Makes prompts of a model: its format and its tokenizer, and nothing that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lmsupply_cli.chat.cached_prompt import CachedPrompt
from lmsupply_cli.chat.formatter import ChatFormatter, Prompt, PromptFormat
from lmsupply_cli.chat.infill import infill
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.tools.spec import ToolRequest
from lmsupply_cli.loading.formats import with_thinking


class Codec(Protocol):
    """A tokenizer, or a model with one."""

    def encode(self, text: str) -> list[int]:
        """Text to ids."""

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text."""


@dataclass(frozen=True)
class Prompter:
    """`format`: control strings, reasoning markers, and the formatter; `codec`: the tokenizer; `cached`: what the cache
    stands for now, whose ids are used again."""

    format: PromptFormat
    codec: Codec
    cached: Callable[[], CachedPrompt | None] | None = None

    def chat(
        self, messages: Iterable[ChatMessage], *, answer_prefix: str = "", tools: ToolRequest | None = None
    ) -> Prompt:
        """`answer_prefix`: text that the answer starts with; `tools`: what it may call. Raises UsageError."""
        return self.format.chat(
            list(messages),
            self.codec.encode,
            answer_prefix=answer_prefix,
            cached=self.cached() if self.cached else None,
            tools=tools,
        )

    def raw(self, text: str) -> Prompt:
        """The text as it stands, after the token that the model's tokenizer begins with, if any. Raises UsageError for
        a NUL or half a character."""
        return self.format.raw(text, self.codec.encode)

    def infill(self, prefix: str, suffix: str) -> Prompt:
        """For the text between the two. Raises UsageError for a model without tokens for it."""
        return infill(self.format, prefix, suffix, self.codec.encode)

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a message with this text, without its format."""
        return len(self.format.plain_tokens(text, self.codec.encode))

    def with_formatter(self, formatter: ChatFormatter) -> Prompter:
        """A copy with another prompt format."""
        return replace(self, format=replace(self.format, formatter=formatter))

    def with_thinking(self, enable: bool, *, effort: str | None = None) -> tuple[Prompter, str]:
        """A copy with reasoning on or off, and what is not supported ("" if everything is)."""
        formatter, refused = with_thinking(self.format.formatter, self.format.markers, enable=enable, effort=effort)
        return self.with_formatter(formatter), refused
