"""A chat is a list of messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import ToolCall


class ChatRole(StrEnum):
    """The author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """`content` is plain text: control tokens written in it stay text.

    Of an answer: `reasoning` is the model's reasoning before it, `partial` that it was stopped, `tool_calls` what it
    asks for. Of a tool's result: `tool_call_id` is the id of the call.
    """

    role: ChatRole
    content: str
    reasoning: str = ""
    partial: bool = False
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    @classmethod
    def system(cls, content: str) -> ChatMessage:
        """A system message."""
        return cls(ChatRole.SYSTEM, content)

    @classmethod
    def user(cls, content: str) -> ChatMessage:
        """A user message."""
        return cls(ChatRole.USER, content)

    @classmethod
    def assistant(
        cls, content: str, *, reasoning: str = "", partial: bool = False, tool_calls: Iterable[ToolCall] = ()
    ) -> ChatMessage:
        """An assistant message."""
        return cls(ChatRole.ASSISTANT, content, reasoning, partial, tuple(tool_calls))

    @classmethod
    def tool(cls, content: str, tool_call_id: str) -> ChatMessage:
        """The result of a tool call."""
        return cls(ChatRole.TOOL, content, tool_call_id=tool_call_id)

    def as_dict(self) -> dict[str, Any]:
        """As `generate_chat` takes it, in JSON values."""
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in self.tool_calls
        ]
        more: dict[str, Any] = {
            "reasoning": self.reasoning,
            "partial": self.partial,
            "tool_calls": calls,
            "tool_call_id": self.tool_call_id,
        }
        return {"role": str(self.role), "content": self.content} | {key: value for key, value in more.items() if value}


_FORM = 'such as [{"role": "user", "content": "hello"}]'
_CALL_FORM = 'such as {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 1}"}}'


def as_messages(messages: Iterable[ChatMessage | Mapping[str, Any]]) -> list[ChatMessage]:
    """Messages, or mappings with `role`, `content` and perhaps `reasoning`, `tool_calls` or `tool_call_id`. Raises
    UsageError."""
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Iterable):
        raise UsageError(f"messages must be a list of messages, not {type(messages).__name__}", hint=_FORM)
    found = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, (ChatMessage, Mapping)):
            raise UsageError(f"message {number} must be a mapping, not {type(message).__name__}", hint=_FORM)
        found.append(message if isinstance(message, ChatMessage) else _message(message, number))
    if not found:
        raise UsageError("there is no message to answer")
    return found


def _message(row: Mapping[str, Any], number: int) -> ChatMessage:
    role, content, reasoning = row.get("role"), row.get("content"), row.get("reasoning") or ""
    calls = row.get("tool_calls") or ()
    if calls and content is None:
        content = ""
    if role not in list(ChatRole) or not isinstance(content, str) or not isinstance(reasoning, str):
        raise UsageError(
            f"message {number} needs a role (system, user, assistant or tool) and a content that is text",
            hint=f"it is {row!r}",
        )
    answers = row.get("tool_call_id") or ""
    if (role == ChatRole.TOOL) != bool(answers) or not isinstance(answers, str):
        raise UsageError(f"message {number}: a message of the role tool, and no other, needs a `tool_call_id`")
    if calls and role != ChatRole.ASSISTANT:
        raise UsageError(f"message {number}: only the assistant calls tools, not the role {role}")
    if not isinstance(calls, (list, tuple)):
        raise UsageError(f"message {number}: `tool_calls` must be a list", hint=_CALL_FORM)
    made = tuple(as_call(call, f"message {number}") for call in calls)
    return ChatMessage(ChatRole(role), content, reasoning, tool_calls=made, tool_call_id=answers)


def as_call(row: Any, where: str) -> ToolCall:
    """A ToolCall, or a mapping as in OpenAI's API; `arguments` is JSON text or an object. `where`: for the error. Raises
    UsageError."""
    if isinstance(row, ToolCall):
        return row
    function = row.get("function", row) if isinstance(row, Mapping) else None
    if not isinstance(function, Mapping):
        raise UsageError(f"{where}: a tool call is no mapping", hint=_CALL_FORM)
    key, name, arguments = row.get("id"), function.get("name"), function.get("arguments", "{}")
    if isinstance(arguments, Mapping):
        arguments = json.dumps(dict(arguments), ensure_ascii=False)
    if not (isinstance(key, str) and key and isinstance(name, str) and name and isinstance(arguments, str)):
        raise UsageError(f"{where}: a tool call needs an id, a name and arguments", hint=_CALL_FORM)
    call = ToolCall(key, name, arguments or "{}")
    check_arguments(call, where)
    return call


def check_arguments(call: ToolCall, where: str) -> None:
    """Raises UsageError for arguments that are no JSON object."""
    try:
        _ = call.values
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{where}: the arguments of {call.name} must be a JSON object", hint=f"they are {call.arguments[:200]!r}"
        ) from error
