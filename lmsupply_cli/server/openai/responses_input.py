"""The input of POST /v1/responses: items, and the messages that they are."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from lmsupply_cli.chat.messages import ChatMessage, ChatRole, as_call
from lmsupply_cli.errors import UsageError
from lmsupply_cli.server.body import Form, Part, refuses, string_or_list, told_by, told_by_type
from lmsupply_cli.server.errors import as_api_error, bad_field
from lmsupply_cli.server.turns import as_turns

STATELESS = "the server keeps no responses; send the whole conversation as `input`"
_NO_IMAGES = "the models read text only"
_NO_FILES = "files are not read; send their text"
_SEALED = "lmsupply:"  # before reasoning that only goes to the client to come back


class InputText(Part):
    """A piece of a message, or of a tool's result."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    no_effect = frozenset({"annotations", "logprobs", "prompt_cache_breakpoint"})


class Refusal(Part):
    """What a model said instead of an answer."""

    type: Literal["refusal"]
    refusal: str


Piece = Annotated[
    Annotated[InputText, Form("input_text")] | Annotated[Refusal, Form("refusal")],
    told_by_type("input_text", "output_text", "refusal", alike={"output_text": "input_text", "text": "input_text"}),
    refuses({"input_image": _NO_IMAGES, "input_file": _NO_FILES, "input_audio": _NO_IMAGES}),
]
Content = Annotated[
    Annotated[str, Form("string")] | Annotated[list[Piece], Form("list")],
    told_by(string_or_list, "a string or a list of parts"),
]
_ITEM_NO_EFFECT = frozenset({"id", "status", "caller", "async", "phase"})


class Message(Part):
    """A message; the developer's are those of the system."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    no_effect = _ITEM_NO_EFFECT


class FunctionCall(Part):
    """A call that a model has made."""

    type: Literal["function_call"]
    call_id: str = Field(min_length=1)
    name: str
    arguments: str
    namespace: str = ""
    no_effect = _ITEM_NO_EFFECT


class CustomCall(Part):
    """A call of a tool that takes any text."""

    type: Literal["custom_tool_call"]
    call_id: str = Field(min_length=1)
    name: str
    input: str
    namespace: str = ""
    no_effect = _ITEM_NO_EFFECT


class CallOutput(Part):
    """The result of a call."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: str = Field(min_length=1)
    output: Content
    no_effect = _ITEM_NO_EFFECT | {"name", "namespace"}


class Thought(Part):
    """A piece of reasoning."""

    type: Literal["reasoning_text", "summary_text", "text"]
    text: str


class ReasoningItem(Part):
    """What a model thought before it answered. The reasoning of another server is encrypted, so it is left out."""

    type: Literal["reasoning"]
    summary: list[Thought] = Field(default_factory=list)
    content: list[Thought] = Field(default_factory=list)
    encrypted_content: str = ""
    no_effect = _ITEM_NO_EFFECT


class SearchCall(Part):
    """What OpenAI's own web search was asked; its results are in the answer that followed."""

    type: Literal["web_search_call"]
    no_effect = frozenset({"id", "status", "action", "query"})


Item = Annotated[
    Annotated[Message, Form("message")]
    | Annotated[FunctionCall, Form("function_call")]
    | Annotated[CustomCall, Form("custom_tool_call")]
    | Annotated[CallOutput, Form("output")]
    | Annotated[ReasoningItem, Form("reasoning")]
    | Annotated[SearchCall, Form("web_search_call")],
    told_by_type(
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "reasoning",
        default="message",
        alike={"function_call_output": "output", "custom_tool_call_output": "output"},
    ),
    refuses(
        {
            "item_reference": STATELESS,
            "compaction": "its content is encrypted",
            "image_generation_call": _NO_IMAGES,
            "computer_call": _NO_IMAGES,
            "computer_call_output": _NO_IMAGES,
        }
    ),
]


def sealed(reasoning: str) -> str:
    """As `encrypted_content`, which clients send back as it is. It is not encrypted: it never left this machine."""
    return _SEALED + base64.b64encode(reasoning.encode("utf-8", "replace")).decode()


def _unsealed(text: str) -> str:
    if not text.startswith(_SEALED):
        return ""
    try:
        return base64.b64decode(text.removeprefix(_SEALED), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def as_messages(
    instructions: str, asked: str | Sequence[Item], flat_name: Callable[[str, str], str]
) -> tuple[ChatMessage, ...]:
    """`flat_name`: what a function of a namespace is called here. Raises ApiError that names the field."""
    messages = [ChatMessage.system(instructions)] if instructions else []
    if isinstance(asked, str):
        return as_turns([*messages, ChatMessage.user(asked)])
    called: set[str] = set()
    for number, item in enumerate(asked):
        where = f"input[{number}]"
        if isinstance(item, CallOutput) and item.call_id not in called:
            raise bad_field(f"{where}.call_id", f"{where}: no function_call before it has the call_id {item.call_id!r}")
        if isinstance(item, (FunctionCall, CustomCall)):
            called.add(item.call_id)
            messages.append(_call(item, where, flat_name))
        elif not isinstance(item, SearchCall):
            messages.append(_message(item))
    return as_turns(messages)


def _message(item: Message | CallOutput | ReasoningItem) -> ChatMessage:
    if isinstance(item, CallOutput):
        return ChatMessage.tool(_text(item.output, "\n"), item.call_id)
    if isinstance(item, ReasoningItem):
        shown = item.content or item.summary
        thought = "\n\n".join(part.text for part in shown) if shown else _unsealed(item.encrypted_content)
        return ChatMessage.assistant("", reasoning=thought)
    role = ChatRole.SYSTEM if item.role == "developer" else ChatRole(item.role)
    return ChatMessage(role, _text(item.content, "" if role is ChatRole.ASSISTANT else "\n"))


def _text(content: str | list[InputText | Refusal], between: str) -> str:
    if isinstance(content, str):
        return content
    return between.join(part.text if isinstance(part, InputText) else part.refusal for part in content)


def _call(item: FunctionCall | CustomCall, where: str, flat_name: Callable[[str, str], str]) -> ChatMessage:
    arguments = item.arguments if isinstance(item, FunctionCall) else {"input": item.input}
    row = {"id": item.call_id, "name": flat_name(item.namespace, item.name), "arguments": arguments}
    try:
        return ChatMessage.assistant("", tool_calls=[as_call(row, where)])
    except UsageError as error:
        raise as_api_error(error, param=f"{where}.arguments") from error
