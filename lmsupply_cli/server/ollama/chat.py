"""POST /api/chat."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lmsupply_cli.chat.messages import ChatMessage, as_call
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import ToolCall
from lmsupply_cli.server.asking import body_of, worked_out
from lmsupply_cli.server.body import MOST_MESSAGES, MOST_TOOLS, Part
from lmsupply_cli.server.errors import as_api_error, bad_field
from lmsupply_cli.server.offers import offer, read_tools
from lmsupply_cli.server.ollama.fields import Answering
from lmsupply_cli.server.ollama.reply import Reply, load_or_unload, respond
from lmsupply_cli.server.openai.chat_body import Tool
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.turns import as_turns
from lmsupply_cli.serving.requests import AnswerRequest, ServedModel


class CalledFunction(Part):
    """`arguments`: an object, not text."""

    name: str = Field(min_length=1)
    arguments: dict[str, Any] = Field(default_factory=dict)
    no_effect = frozenset({"index", "description"})


class Call(Part):
    """A call that the model made earlier. Without an `id`, results find it by the name of the tool and their order."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Part):
    """What the model thought earlier is not shown to it."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: list[Call] = Field(default_factory=list)
    tool_name: str = ""
    tool_call_id: str = ""
    no_effect = frozenset({"thinking"})
    unsupported = {"images": "models here read text only"}  # noqa: RUF012  # a ClassVar of Part


class ChatBody(Answering):
    """Without messages, the model is loaded, or with `keep_alive` 0 unloaded. A last message of the assistant is
    continued."""

    messages: list[Message] = Field(default_factory=list, max_length=MOST_MESSAGES)
    tools: list[Tool] = Field(default_factory=list, max_length=MOST_TOOLS)

    def request(self, model: ServedModel) -> AnswerRequest:
        """Raises ApiError that names the field."""
        rows = [(f"tools[{number}]", tool.model_dump(exclude_none=True)) for number, tool in enumerate(self.tools)]
        offers, thinking = offer(read_tools(rows)), self.thinking(model)
        messages, prefix = _chat(self.messages), ""
        last = messages[-1]
        if last.role == "assistant" and last.content and not last.tool_calls and len(messages) > 1:
            messages, prefix = messages[:-1], last.content
        return AnswerRequest(
            messages=as_turns(messages),
            options=self.generation(),
            answer_prefix=prefix,
            tools=offers.tools,
            tool_choice=offers.tool_choice,
            guidance=self.guidance,
            enable_thinking=thinking.enable_thinking,
            reasoning_effort=thinking.reasoning_effort,
        )


def _chat(messages: list[Message]) -> list[ChatMessage]:
    """Raises ApiError that names the field."""
    made: list[ChatMessage] = []
    waiting: list[ToolCall] = []  # calls without a result
    count = 0
    for number, message in enumerate(messages):
        param = f"messages[{number}]"
        _check(message, param)
        text = message.content or ""
        if message.role == "tool":
            call = _answered(message, waiting, param)
            waiting.remove(call)
            made.append(ChatMessage.tool(text, call.id))
            continue
        calls = [_call(call, f"{param}.tool_calls[{n}]", count + n) for n, call in enumerate(message.tool_calls)]
        count += len(calls)
        waiting += calls
        if message.role == "assistant":
            made.append(ChatMessage.assistant(text, tool_calls=calls))
        else:
            made.append(ChatMessage.user(text) if message.role == "user" else ChatMessage.system(text))
    return made


def _check(message: Message, param: str) -> None:
    if message.content is None and not message.tool_calls:
        raise bad_field(f"{param}.content", f"{param}.content is missing", code="missing_required_parameter")
    if message.tool_calls and message.role != "assistant":
        raise bad_field(f"{param}.tool_calls", f"{param}: only the assistant calls tools, not the role {message.role}")
    for name in ("tool_name", "tool_call_id"):
        if getattr(message, name) and message.role != "tool":
            raise bad_field(f"{param}.{name}", f"{param}: {name} belongs to the role tool, not {message.role}")


def _call(call: Call, param: str, number: int) -> ToolCall:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    try:
        return as_call({"id": call.id or f"call_{number}", "function": function}, param)
    except UsageError as error:
        raise as_api_error(error, param=f"{param}.function") from error


def _answered(message: Message, waiting: list[ToolCall], param: str) -> ToolCall:
    """The call that a result belongs to: by its id, else by the name of the tool, else the first one."""
    key, name = message.tool_call_id, message.tool_name
    for call in waiting:
        if call.id == key or (not key and name in ("", call.name)):
            return call
    field = "tool_call_id" if key else "tool_name" if name else "role"
    raise bad_field(f"{param}.{field}", f"{param}.{field}: no message before it makes this call")


class ChatReply(Reply):
    """The keys of chat."""

    _calls = 0

    def piece(self, text: str = "", thinking: str = "", calls: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "function": {"index": self._calls + n, "name": call.name, "arguments": call.values}}
                for n, call in enumerate(calls)
            ]
            self._calls += len(calls)
        return {"message": message}


async def chat(request: Request) -> Response:
    """A message of a chat, line by line unless `stream` is false."""
    body, state = await body_of(request, ChatBody), ServerState.of(request)
    model, reply = state.find(body.name), ChatReply(state, body.model)
    if not body.messages:
        return await load_or_unload(request, body, reply)
    asked = await worked_out(request, lambda: body.request(model))
    return await respond(request, body, asked, reply)


ROUTES = [Route("/api/chat", chat, methods=["POST"])]
