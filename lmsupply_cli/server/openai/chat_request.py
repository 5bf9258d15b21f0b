"""What a chat completion asks of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage, as_call
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import ToolCall
from lmsupply_cli.server.errors import ApiError, as_api_error, bad_field
from lmsupply_cli.server.guided import json_object, json_schema
from lmsupply_cli.server.offers import Offers, named, offer, read_tools
from lmsupply_cli.server.openai.chat_body import ChatBody, Choice, Content, Message, ResponseFormat, Tool
from lmsupply_cli.server.sampling import seeded
from lmsupply_cli.server.thinking import thinking_of
from lmsupply_cli.server.turns import as_turns
from lmsupply_cli.serving.requests import AnswerRequest


def chat_requests(body: ChatBody) -> list[AnswerRequest]:
    """One for each of the `n` choices, which differ in their seeds. Raises ApiError that names the field."""
    offers = _offers(body.tools, body.tool_choice)
    thinking = thinking_of(body.reasoning_effort, enable=_template_switch(body))
    first = AnswerRequest(
        messages=as_turns(chat_messages(body.messages)),
        options=_options(body),
        tools=offers.tools,
        tool_choice=offers.tool_choice,
        parallel_tool_calls=body.parallel_tool_calls,
        guidance=_guidance(body.response_format),
        enable_thinking=thinking.enable_thinking,
        reasoning_effort=thinking.reasoning_effort,
    )
    return [replace(first, options=seeded(first.options, number)) for number in range(body.n)]


def _template_switch(body: ChatBody) -> bool | None:
    switch = body.chat_template_kwargs.enable_thinking if body.chat_template_kwargs else None
    if switch is not None and body.reasoning_effort is not None and switch == (body.reasoning_effort == "none"):
        raise bad_field(
            "reasoning_effort", "reasoning_effort and chat_template_kwargs.enable_thinking contradict each other"
        )
    return switch


def _options(body: ChatBody) -> dict[str, Any]:
    if body.top_logprobs and not body.logprobs:
        raise bad_field("top_logprobs", "top_logprobs needs logprobs: true")
    more = {"max_tokens": _limit(body), "logprobs": body.logprobs, "top_logprobs": body.top_logprobs}
    return body.options(more, names={} if body.max_tokens is not None else {"max_tokens": "max_completion_tokens"})


def _limit(body: ChatBody) -> int | None:
    old, new = body.max_tokens, body.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise bad_field("max_tokens", "max_tokens and max_completion_tokens differ: leave out max_tokens")
    return new if old is None else old


def chat_messages(messages: Sequence[Message]) -> list[ChatMessage]:
    """Raises ApiError that names the field."""
    made: list[ChatMessage] = []
    asked: set[str] = set()
    for number, message in enumerate(messages):
        found = _message(message, f"messages[{number}]", asked)
        asked |= {call.id for call in found.tool_calls}
        made.append(found)
    return made


def _message(message: Message, param: str, asked: set[str]) -> ChatMessage:
    if message.tool_calls and message.role != "assistant":
        raise bad_field(f"{param}.tool_calls", f"{param}: only the assistant calls tools, not the role {message.role}")
    if message.content is None and not message.tool_calls:
        raise bad_field(f"{param}.content", f"{param}.content is missing", code="missing_required_parameter")
    text = text_of(message.content)
    if message.role == "tool":
        return _result(message, text, param, asked)
    if message.tool_call_id:
        raise bad_field(f"{param}.tool_call_id", f"{param}: tool_call_id belongs to the role tool, not {message.role}")
    if message.role == "assistant":
        return ChatMessage.assistant(text, tool_calls=_calls(message, param))
    return ChatMessage.user(text) if message.role == "user" else ChatMessage.system(text)


def _result(message: Message, text: str, param: str, asked: set[str]) -> ChatMessage:
    key = message.tool_call_id
    if not key:
        raise bad_field(f"{param}.tool_call_id", f"{param}.tool_call_id is missing", code="missing_required_parameter")
    if key not in asked:
        raise bad_field(f"{param}.tool_call_id", f"{param}: no message before it makes the call {key!r}")
    return ChatMessage.tool(text, key)


def _calls(message: Message, param: str) -> list[ToolCall]:
    calls = []
    for number, call in enumerate(message.tool_calls):
        where = f"{param}.tool_calls[{number}].function"
        if not call.function.name:
            raise bad_field(f"{where}.name", f"{where}.name is empty")
        try:
            calls.append(as_call(call.model_dump(), where))
        except UsageError as error:
            raise as_api_error(error, param=f"{where}.arguments") from error
    return calls


def text_of(content: Content | None) -> str:
    """Of a message; parts are put below each other."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content)


def _offers(tools: Sequence[Tool], choice: Choice | None) -> Offers:
    rows = [(f"tools[{number}]", _row(tool)) for number, tool in enumerate(tools)]
    wanted, allowed = _wish(choice)
    return offer(read_tools(rows), wanted, allowed=allowed)


def _row(tool: Tool) -> Mapping[str, Any]:
    return {"type": "function", "function": tool.function.model_dump(exclude_none=True)}


def _wish(choice: Choice | None) -> tuple[str | Mapping[str, Any] | None, list[str] | None]:
    """(the choice, the names that may be called or None for all)."""
    if choice is None or isinstance(choice, str):
        return choice, None
    if choice.type == "allowed_tools":
        if choice.allowed_tools is None:
            raise _left_out("tool_choice.allowed_tools")
        return choice.allowed_tools.mode, [tool.function.name for tool in choice.allowed_tools.tools]
    if choice.function is None:
        raise _left_out("tool_choice.function")
    return named(choice.function.name), None


def _left_out(param: str) -> ApiError:
    return bad_field(param, f"{param} is missing", code="missing_required_parameter")


def _guidance(wanted: ResponseFormat | None) -> Guidance | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.json_schema and wanted.json_schema.schema_ is not None:
        return json_schema(wanted.json_schema.schema_, param="response_format.json_schema.schema")
    if wanted.schema_ is not None:
        return json_schema(wanted.schema_, param="response_format.schema")
    return json_object()
