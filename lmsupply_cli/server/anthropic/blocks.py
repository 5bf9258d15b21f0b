"""Content blocks of POST /v1/messages, and the messages that they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.events import ToolCall
from lmsupply_cli.server.body import Form, Part, refuses, string_or_list, told_by, told_by_type
from lmsupply_cli.server.errors import bad_field
from lmsupply_cli.server.turns import as_turns

_BILLING = "x-anthropic-billing-header:"  # a system block for Anthropic, which differs from request to request
_NO_IMAGES = "the models read text only"
_NO_FILES = "files are not read; send their text"
_NO_SERVER_TOOLS = "the server runs no tools of Anthropic's"
_REFUSED = {
    "image": _NO_IMAGES,
    "document": _NO_FILES,
    "container_upload": _NO_FILES,
    "search_result": "send its text",
    "server_tool_use": _NO_SERVER_TOOLS,
    "web_search_tool_result": _NO_SERVER_TOOLS,
    "web_fetch_tool_result": _NO_SERVER_TOOLS,
    "code_execution_tool_result": _NO_SERVER_TOOLS,
    "tool_reference": _NO_SERVER_TOOLS,
    "mcp_tool_use": _NO_SERVER_TOOLS,
    "mcp_tool_result": _NO_SERVER_TOOLS,
}


class TextBlock(Part):
    """A piece of text."""

    type: Literal["text"]
    text: str
    no_effect = frozenset({"cache_control", "citations"})


Texts = Annotated[
    Annotated[str, Form("string")]
    | Annotated[
        list[Annotated[Annotated[TextBlock, Form("text")], told_by_type("text"), refuses(_REFUSED)]], Form("list")
    ],
    told_by(string_or_list, "a string or a list of text blocks"),
]


class ToolUse(Part):
    """A call that a model has made."""

    type: Literal["tool_use"]
    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    input: dict[str, Any]
    no_effect = frozenset({"cache_control", "caller"})


class ToolResult(Part):
    """The result of a call; of one that failed, the model is told so."""

    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1)
    content: Texts = ""
    is_error: bool = False
    no_effect = frozenset({"cache_control", "toolset_name"})


class ThinkingBlock(Part):
    """What a model thought before it answered."""

    type: Literal["thinking"]
    thinking: str
    no_effect = frozenset({"signature", "cache_control"})


class RedactedThinking(Part):
    """The same, encrypted by another server: it is left out."""

    type: Literal["redacted_thinking"]
    no_effect = frozenset({"data", "cache_control"})


_Block = Annotated[
    Annotated[TextBlock, Form("text")]
    | Annotated[ToolUse, Form("tool_use")]
    | Annotated[ToolResult, Form("tool_result")]
    | Annotated[ThinkingBlock, Form("thinking")]
    | Annotated[RedactedThinking, Form("redacted_thinking")],
    told_by_type("text", "tool_use", "tool_result", "thinking", "redacted_thinking"),
    refuses(_REFUSED),
]


class Message(Part):
    """A message of the user, the assistant, or the system."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[
        Annotated[str, Form("string")] | Annotated[list[_Block], Form("list")],
        told_by(string_or_list, "a string or a list of blocks"),
    ]
    no_effect: ClassVar[frozenset[str]] = frozenset({"id", "type", "model", "stop_reason", "stop_sequence", "usage"})

    @property
    def blocks(self) -> list[Any]:
        """Its content, always as blocks."""
        return [TextBlock(type="text", text=self.content)] if isinstance(self.content, str) else self.content


def system_text(system: str | Sequence[TextBlock]) -> str:
    """The system prompt. A block with Anthropic's billing header is left out: it is not for the model, and it would
    keep the prompt cache from being used."""
    texts = [system] if isinstance(system, str) else [block.text for block in system]
    return "\n\n".join(text for text in texts if text and not text.startswith(_BILLING))


def as_messages(system: str, messages: Sequence[Message]) -> tuple[tuple[ChatMessage, ...], str]:
    """The chat, and the text that the answer begins with: that of a last message of the assistant. Raises ApiError that
    names the field."""
    prefix = ""
    if messages[-1].role == "assistant":
        prefix, messages = _prefix(messages[-1], f"messages[{len(messages) - 1}].content"), messages[:-1]
    chat = [ChatMessage.system(system)] if system else []
    called: set[str] = set()
    for number, message in enumerate(messages):
        for place, block in enumerate(message.blocks):
            _check(block, message.role, f"messages[{number}].content[{place}]", called)
        chat += _spoken(message)
    return as_turns(chat), prefix


def _prefix(last: Message, where: str) -> str:
    if any(not isinstance(block, TextBlock) for block in last.blocks):
        raise bad_field(where, f"{where}: only a text answer can be continued")
    text = "".join(block.text for block in last.blocks)
    if text != text.rstrip():
        raise bad_field(where, f"{where}: a prefilled answer must not end in white space")
    return text


def _check(block: Any, role: str, where: str, called: set[str]) -> None:
    """Calls are the assistant's, results the user's, and every result has its call before it."""
    allowed = {"assistant": (TextBlock, ToolUse, ThinkingBlock, RedactedThinking), "user": (TextBlock, ToolResult)}
    if not isinstance(block, allowed.get(role, TextBlock)):
        raise bad_field(f"{where}.type", f"{where}: a message of the role {role} can't contain {block.type}")
    if isinstance(block, ToolUse):
        called.add(block.id)
    elif isinstance(block, ToolResult) and block.tool_use_id not in called:
        text = f"{where}: no tool_use before it has the id {block.tool_use_id!r}"
        raise bad_field(f"{where}.tool_use_id", text)


def _spoken(message: Message) -> Iterator[ChatMessage]:
    """Results come before the text of the same message, as Anthropic's API wants them."""
    blocks = message.blocks
    text = [block.text for block in blocks if isinstance(block, TextBlock)]
    if message.role == "assistant":
        calls = [
            ToolCall(block.id, block.name, json.dumps(block.input, ensure_ascii=False))
            for block in blocks
            if isinstance(block, ToolUse)
        ]
        thoughts = "\n\n".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock))
        yield ChatMessage.assistant("".join(text), reasoning=thoughts, tool_calls=calls)
        return
    for block in blocks:
        if isinstance(block, ToolResult):
            result = block.content if isinstance(block.content, str) else "\n".join(b.text for b in block.content)
            yield ChatMessage.tool(f"Error: {result}" if block.is_error else result, block.tool_use_id)
    if text:
        joined = "\n\n".join(text)
        yield ChatMessage.system(joined) if message.role == "system" else ChatMessage.user(joined)
