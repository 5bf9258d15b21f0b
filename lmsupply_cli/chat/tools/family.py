"""What a family of models does about tools: its own form, or a guided one for models without any."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from lmsupply_cli.chat.messages import ChatMessage, ChatRole, check_arguments
from lmsupply_cli.chat.tools.grammar import Marks, Offer
from lmsupply_cli.chat.tools.parsing import AnswerParser
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import ToolCall

Tools = Sequence[Mapping[str, Any]]  # each in OpenAI's form, as chat templates read it
Names = Sequence[str]


class ToolFormatter(Protocol):
    """A chat format that has a place for tools, calls and results."""

    def render(self, messages: Sequence[ChatMessage], tools: Tools = ()) -> str:
        """The prompt up to where the assistant's answer begins."""


class MessageFormatter(Protocol):
    """A chat format of system, user and assistant messages."""

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt up to where the assistant's answer begins."""


class ToolFamily(Protocol):
    """Renders tools, calls and results; says what an answer may be; reads it."""

    name: str
    native: bool  # whether the models were trained on this form
    parallel: bool  # whether one answer may hold several calls
    marks: tuple[str, ...]  # control strings that the grammar and the parser need
    ends: tuple[str, ...]  # control strings that end an answer, whatever the model's config says

    def render(self, messages: Sequence[ChatMessage], tools: Tools) -> str:
        """The prompt. The texts of messages and tools hold no control strings."""

    def grammar(self, offer: Offer, marks: Marks) -> str:
        """What the answer must follow, for llguidance."""

    def parser(self, guided: Names = ()) -> AnswerParser:
        """For one answer, behind its thoughts. `guided`: the names of the tools, where the text is guided: it may then
        hold anything, and calls only stand where no text does."""


def check_calls(messages: Sequence[ChatMessage]) -> None:
    """Raises UsageError for a call whose arguments are no JSON object, and for a result that no call asked for."""
    asked: set[str] = set()
    for number, message in enumerate(messages, 1):
        for call in message.tool_calls:
            check_arguments(call, f"message {number}")
            asked.add(call.id)
        if message.role is ChatRole.TOOL and message.tool_call_id not in asked:
            raise UsageError(
                f"message {number} is the result of the call {message.tool_call_id!r}, which no message before it makes",
                hint="keep the assistant's message with its `tool_calls` in the chat",
            )


def names_of_calls(messages: Sequence[ChatMessage]) -> dict[str, str]:
    """Tool by call id."""
    return {call.id: call.name for message in messages for call in message.tool_calls}


def one_call_each(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The same history for a format of one call a message: each call is followed by its result."""
    results = {m.tool_call_id: m for m in messages if m.role is ChatRole.TOOL}
    out: list[ChatMessage] = []
    moved: set[str] = set()
    for message in messages:
        if len(message.tool_calls) > 1:
            for at, call in enumerate(message.tool_calls):
                first = message if at == 0 else replace(message, content="", reasoning="")
                out.append(replace(first, tool_calls=(call,)))
                if call.id in results:
                    out.append(results[call.id])
                    moved.add(call.id)
        elif message.tool_call_id not in moved:
            out.append(message)
    return out


def as_turns(messages: Sequence[ChatMessage]) -> Iterator[list[ChatMessage]]:
    """Messages in order; results that follow each other together."""
    together: list[ChatMessage] = []
    for message in messages:
        if message.role is ChatRole.TOOL:
            together.append(message)
            continue
        if together:
            yield together
            together = []
        yield [message]
    if together:
        yield together


def call_text(call: ToolCall, key: str = "arguments") -> str:
    """A call as JSON, as models write it."""
    return f'{{"name": {to_json(call.name)}, "{key}": {to_json(call.values)}}}'


def to_json(value: Any) -> str:
    """As the `tojson` of chat templates writes it."""
    return json.dumps(value, ensure_ascii=False)
