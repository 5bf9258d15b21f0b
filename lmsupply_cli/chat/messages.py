"""A chat is a list of messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from lmsupply_cli.errors import UsageError


class ChatRole(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """`content` is plain text: control tokens written in it stay text."""

    role: ChatRole
    content: str

    @classmethod
    def system(cls, content: str) -> ChatMessage:
        return cls(ChatRole.SYSTEM, content)

    @classmethod
    def user(cls, content: str) -> ChatMessage:
        return cls(ChatRole.USER, content)

    @classmethod
    def assistant(cls, content: str) -> ChatMessage:
        return cls(ChatRole.ASSISTANT, content)


def as_messages(messages: Iterable[ChatMessage | Mapping[str, str]]) -> list[ChatMessage]:
    """Messages, or mappings with `role` and `content`. Raises UsageError."""
    found = []
    for number, message in enumerate(messages, 1):
        if isinstance(message, ChatMessage):
            found.append(message)
            continue
        role, content = message.get("role"), message.get("content")
        if role not in list(ChatRole) or not isinstance(content, str):
            raise UsageError(
                f"message {number} needs a role (system, user or assistant) and a content that is text",
                hint=f"it is {message!r}",
            )
        found.append(ChatMessage(ChatRole(role), content))
    if not found:
        raise UsageError("there is no message to answer")
    return found
