"""A chat as a file to read or to work with."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.errors import UsageError

_NAMES = {
    ChatRole.SYSTEM: "System", ChatRole.USER: "You", ChatRole.ASSISTANT: "Assistant", ChatRole.TOOL: "Tool",
}  # fmt: skip


def export_text(messages: Sequence[ChatMessage], form: str, *, model: str) -> str:
    """Markdown, one JSON object (`messages` as `generate_chat` takes them), or plain text. Raises UsageError."""
    if form == ".json":
        rows = [message.as_dict() for message in messages]
        return (
            json.dumps({"schema": JSON_SCHEMA, "model": model, "messages": rows}, ensure_ascii=False, indent=2) + "\n"
        )
    if form == ".md":
        return f"# Chat with {model}\n\n" + "\n\n".join(f"## {_who(m)}\n\n{_what(m)}" for m in messages) + "\n"
    if form == ".txt":
        return "\n\n".join(f"{_who(m)}: {_what(m)}" for m in messages) + "\n"
    raise UsageError(
        f"a chat cannot be exported as {form or 'a file without an extension'}",
        hint="use the extension .md, .json or .txt",
    )


def _what(message: ChatMessage) -> str:
    calls = (f"{call.name}({call.arguments})" for call in message.tool_calls)
    return "\n".join(filter(None, [message.content.strip(), *calls]))


def _who(message: ChatMessage) -> str:
    name = _NAMES[message.role]
    return f"{name} (stopped)" if message.partial else name
