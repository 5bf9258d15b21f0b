"""A chat is a list of messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lmsupply_cli.errors import UsageError


class ChatRole(StrEnum):
    """The author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """`content` is plain text: control tokens written in it stay text.

    Of an answer: `reasoning` is the model's reasoning before it, `partial` that it was stopped.
    """

    role: ChatRole
    content: str
    reasoning: str = ""
    partial: bool = False

    @classmethod
    def system(cls, content: str) -> ChatMessage:
        """A system message."""
        return cls(ChatRole.SYSTEM, content)

    @classmethod
    def user(cls, content: str) -> ChatMessage:
        """A user message."""
        return cls(ChatRole.USER, content)

    @classmethod
    def assistant(cls, content: str, *, reasoning: str = "", partial: bool = False) -> ChatMessage:
        """An assistant message."""
        return cls(ChatRole.ASSISTANT, content, reasoning, partial)

    def as_dict(self) -> dict[str, Any]:
        """As `generate_chat` takes it, in JSON values."""
        more = {"reasoning": self.reasoning, "partial": self.partial}
        return {"role": str(self.role), "content": self.content} | {key: value for key, value in more.items() if value}


_FORM = 'such as [{"role": "user", "content": "hello"}]'


def as_messages(messages: Iterable[ChatMessage | Mapping[str, str]]) -> list[ChatMessage]:
    """Messages, or mappings with `role`, `content` and perhaps `reasoning`. Raises UsageError."""
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Iterable):
        raise UsageError(f"messages must be a list of messages, not {type(messages).__name__}", hint=_FORM)
    found = []
    for number, message in enumerate(messages, 1):
        if isinstance(message, ChatMessage):
            found.append(message)
            continue
        if not isinstance(message, Mapping):
            raise UsageError(f"message {number} must be a mapping, not {type(message).__name__}", hint=_FORM)
        role, content, reasoning = message.get("role"), message.get("content"), message.get("reasoning") or ""
        if role not in list(ChatRole) or not isinstance(content, str) or not isinstance(reasoning, str):
            raise UsageError(
                f"message {number} needs a role (system, user or assistant) and a content that is text",
                hint=f"it is {message!r}",
            )
        found.append(ChatMessage(ChatRole(role), content, reasoning))
    if not found:
        raise UsageError("there is no message to answer")
    return found
