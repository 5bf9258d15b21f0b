"""Answers of chat and generate: one object, or one object a line."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    TokenLogprob,
    ToolCall,
)
from lmsupply_cli.generation.completion import AnswerBuffer, Completion
from lmsupply_cli.server.asking import ask, while_connected
from lmsupply_cli.server.errors import ApiError, bad_field
from lmsupply_cli.server.ollama.fields import Answering
from lmsupply_cli.server.openai.parts import finish_reason, logprobs_object
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import streamed, whole
from lmsupply_cli.serving.requests import Answer, AnswerRequest, ServedModel

LINES = "application/x-ndjson"
_REASONS = {"tool_calls": "stop"}


def line(value: dict[str, Any]) -> bytes:
    """An object of a stream."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def failed(error: ApiError) -> bytes:
    """The last line of a stream that an error ended."""
    return line(error.ollama())


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as in RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Reply(ABC):
    """What one request is answered with."""

    def __init__(self, state: ServerState, model: str) -> None:
        self._state, self._model, self._began = state, model, time.monotonic()
        self._accepted = self._began

    def accepted(self) -> None:
        """The model is loaded, and its prompt is made."""
        self._accepted = time.monotonic()

    @abstractmethod
    def piece(self, text: str = "", thinking: str = "", calls: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
        """Of an answer, in the keys of this endpoint."""

    def more(self, answer: AnswerBuffer | Completion) -> dict[str, Any]:
        """For the last object of a whole answer."""
        return {}

    def nothing(self, reason: str) -> dict[str, Any]:
        """For a request that only loads or unloads a model."""
        return self._head(self.piece(), done=True) | {"done_reason": reason}

    def whole(self, done: Completion) -> dict[str, Any]:
        """In one object."""
        piece = self.piece(done.text, done.reasoning, done.tool_calls)
        logprobs = _logprobs(done.logprobs)
        return self._head(piece, done=True) | logprobs | self._end(done) | self.more(done)

    async def lines(self, answer: Answer) -> AsyncIterator[bytes]:
        """In pieces. Reasoning that turns out to be such only at its end has been sent as text; it is sent again as thinking,
        since nothing can be taken back."""
        said, tokens = AnswerBuffer(), list[TokenLogprob]()
        async for event in answer:
            before = said.text
            said.add(event)
            if isinstance(event, TokenLogprob):
                tokens.append(event)
            elif isinstance(event, Finished):
                yield line(self._head(self.piece(), done=True) | _logprobs(tokens) | self._end(event) | self.more(said))
                return
            for piece in self._pieces(event, before):
                yield line(self._head(piece, done=False) | _logprobs(tokens))
                tokens = []
        raise ApiError(502, "the answer ended before it was complete", "worker_died")

    def _pieces(self, event: GenerationEvent, before: str) -> Iterator[dict[str, Any]]:
        if isinstance(event, TextDelta):
            yield self.piece(event.text)
        elif isinstance(event, ReasoningDelta):
            yield self.piece(thinking=event.text)
        elif isinstance(event, TextWasReasoning) and before:
            yield self.piece(thinking=before)
        elif isinstance(event, ToolCall):
            yield self.piece(calls=(event,))

    def _head(self, piece: dict[str, Any], *, done: bool) -> dict[str, Any]:
        return {"model": self._model, "created_at": timestamp(self._state.clock()), **piece, "done": done}

    def _end(self, end: Finished | Completion) -> dict[str, Any]:
        """Why it ended, and what it took, in nanoseconds. `load_duration`: until the model took the request."""
        reason = finish_reason(end.finish_reason)
        now, timings = time.monotonic(), end.timings
        return {
            "done_reason": _REASONS.get(reason, reason),
            "total_duration": _nanoseconds(now - self._began),
            "load_duration": _nanoseconds(self._accepted - self._began),
            "prompt_eval_count": end.usage.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(timings.prefill_s),
            "eval_count": end.usage.completion_tokens,
            "eval_duration": _nanoseconds(timings.decode_s),
        }


def _nanoseconds(seconds: float) -> int:
    """At least 1: clients divide by it."""
    return max(1, round(seconds * 1e9))


def _logprobs(tokens: list[TokenLogprob] | tuple[TokenLogprob, ...]) -> dict[str, Any]:
    return {"logprobs": logprobs_object(tokens)["content"]} if tokens else {}


async def respond(request: Request, body: Answering, asked: AnswerRequest, reply: Reply) -> Response:
    """Ask the model, and answer as the body wants it. Raises ApiError, ClientGone."""
    keep_alive_s = body.keep_alive_s
    if body.options.num_ctx is not None:
        await _check_context(request, body, keep_alive_s)
    answer = await ask(request, body.name, asked, keep_alive_s=keep_alive_s, names=body.names)
    reply.accepted()
    if not body.stream:
        return JSONResponse(reply.whole(await whole(request, answer)))
    return streamed(reply.lines(answer), cancel=answer.cancel, failed=failed, media_type=LINES)


async def _check_context(request: Request, body: Answering, keep_alive_s: float | None) -> None:
    """A model's context is fixed when it is loaded; only then is it known for certain."""
    state = ServerState.of(request)
    _fits(body, state.find(body.name))
    await while_connected(request, state.models.load(body.name, keep_alive_s=keep_alive_s))
    _fits(body, state.find(body.name))


def _fits(body: Answering, model: ServedModel) -> None:
    if (body.options.num_ctx or 0) > model.context_length:
        raise bad_field(
            "options.num_ctx",
            f"options.num_ctx: {body.options.num_ctx} is more than the {model.context_length} tokens that {model.ref} was loaded with "
            "(lmsupply serve --context sets the context)",
        )


async def load_or_unload(request: Request, body: Answering, reply: Reply) -> Response:
    """A request without a prompt. Raises ApiError, ClientGone."""
    state, keep_alive_s = ServerState.of(request), body.keep_alive_s
    if keep_alive_s == 0:
        await state.models.unload(body.name)
        return JSONResponse(reply.nothing("unload"))
    if body.options.num_ctx is not None:
        await _check_context(request, body, keep_alive_s)
    else:
        await while_connected(request, state.models.load(body.name, keep_alive_s=keep_alive_s))
    return JSONResponse(reply.nothing("load"))
