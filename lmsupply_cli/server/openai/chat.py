"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from lmsupply_cli.generation.completion import Completion
from lmsupply_cli.server.asking import body_of, worked_out
from lmsupply_cli.server.errors import ApiError
from lmsupply_cli.server.openai.chat_body import ChatBody
from lmsupply_cli.server.openai.chat_request import chat_requests
from lmsupply_cli.server.openai.parts import fingerprint, finish_reason, logprobs_object, new_id, usage_object
from lmsupply_cli.server.several import Answers
from lmsupply_cli.server.sse import CONTENT_TYPE, DONE, PING, sse
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import streamed

_NAMES = {"guidance": "response_format"}


async def chat_completions(request: Request) -> Response:
    """Whole, or as server-sent events."""
    body = await body_of(request, ChatBody)
    state = ServerState.of(request)
    head = _head(state, body.model)
    asked = await worked_out(request, lambda: chat_requests(body))
    answers = await Answers.begin(request, body.model, asked, names=_NAMES)
    if not body.stream:
        completions = await answers.whole()
        return JSONResponse(_object(head, completions, logprobs=body.logprobs))
    wants_usage = bool(body.stream_options and body.stream_options.include_usage)
    stream = ChatStream(head | {"object": "chat.completion.chunk"}, body.n, wants_usage=wants_usage)
    return streamed(
        stream.frames(answers),
        cancel=answers.cancel,
        failed=error_frame,
        media_type=CONTENT_TYPE,
        ping=PING if state.options.ping_s else b"",
        ping_s=state.options.ping_s,
        ping_first=False,
    )


def error_frame(error: ApiError) -> bytes:
    """An error after the start of a stream: its last event."""
    return sse(error.openai())


def _head(state: ServerState, model: str) -> dict[str, Any]:
    """Raises ApiError for a model that is not here."""
    found = state.find(model)
    return {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": int(state.clock()),
        "model": found.ref,
        "system_fingerprint": fingerprint(found),
    }


def _object(head: dict[str, Any], completions: list[Completion], *, logprobs: bool) -> dict[str, Any]:
    choices = [
        {
            "index": number,
            "message": _message(completion),
            "logprobs": logprobs_object(completion.logprobs) if logprobs else None,
            "finish_reason": finish_reason(completion.finish_reason),
        }
        for number, completion in enumerate(completions)
    ]
    return head | {"choices": choices, "usage": usage_object(completion.usage for completion in completions)}


def _message(completion: Completion) -> dict[str, Any]:
    """`content` is null in an answer of calls alone; `reasoning_content` is there if the model thought."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in completion.tool_calls
    ]
    message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None}
    if completion.reasoning:
        message["reasoning_content"] = completion.reasoning
    if calls:
        message |= {"content": completion.text or None, "tool_calls": calls}
    return message


@dataclass
class _Choice:
    """One of the choices, as far as it was sent."""

    index: int
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    calls: set[int] = field(default_factory=set)

    def deltas(self, event: GenerationEvent) -> Iterator[dict[str, Any]]:
        """What clients are told of an event. Every delta has `content`: clients fail without it."""
        if isinstance(event, TokenLogprob):
            self.logprobs.append(event)
        elif isinstance(event, TextDelta):
            self.text += event.text
            yield {"content": event.text}
        elif isinstance(event, ReasoningDelta):
            yield {"content": "", "reasoning_content": event.text}
        elif isinstance(event, TextWasReasoning):
            text, self.text = self.text, ""
            yield {"content": "", "reasoning_content": text}
        elif isinstance(event, ToolCallDelta):
            yield {"content": "", "tool_calls": [self._call(event)]}

    def _call(self, event: ToolCallDelta) -> dict[str, Any]:
        """The first delta of a call names it, the others hold its arguments alone."""
        if event.index in self.calls:
            return {"index": event.index, "function": {"arguments": event.arguments}}
        self.calls.add(event.index)
        function = {"name": event.name, "arguments": event.arguments}
        return {"index": event.index, "id": event.id, "type": "function", "function": function}

    def choice(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        """With the log probabilities of the tokens since the last one."""
        tokens, self.logprobs = self.logprobs, []
        logprobs = logprobs_object(tokens) if tokens else None
        return {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


class ChatStream:
    """The chunks of one response. Reasoning that turns out to be such only at its end has been sent as content; it is sent
    again as reasoning, since nothing can be taken back."""

    def __init__(self, head: dict[str, Any], choices: int, *, wants_usage: bool) -> None:
        self._head = head | ({"usage": None} if wants_usage else {})
        self._choices = [_Choice(number) for number in range(choices)]
        self._usages: dict[int, Usage] = {}
        self._wants_usage = wants_usage

    async def frames(self, answers: Answers) -> AsyncIterator[bytes]:
        """Until the end. The role comes at once: before a long prefill there is a first byte."""
        for choice in self._choices:
            yield self._chunk(choice.choice({"role": "assistant", "content": ""}))
        async for number, event in answers.events():
            choice = self._choices[number]
            for delta in choice.deltas(event):
                yield self._chunk(choice.choice(delta))
            if isinstance(event, Finished):
                self._usages[number] = event.usage
                yield self._chunk(choice.choice({}, finish_reason(event.finish_reason)))
        if self._wants_usage:
            usages = [self._usages[number] for number in sorted(self._usages)]
            yield sse(self._head | {"choices": [], "usage": usage_object(usages)})
        yield DONE

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return sse(self._head | {"choices": [choice]})


ROUTES = [Route("/v1/chat/completions", chat_completions, methods=["POST"])]
