"""POST /v1/responses, without state: a response is not kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from secrets import token_hex
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmsupply_cli.events import Finished, GenerationEvent, Usage
from lmsupply_cli.generation.completion import Completion
from lmsupply_cli.server.asking import ask, body_of, count, worked_out
from lmsupply_cli.server.errors import ApiError
from lmsupply_cli.server.openai.parts import finish_reason
from lmsupply_cli.server.openai.responses_body import ENCRYPTED, NAMES, PromptBody, ResponsesBody
from lmsupply_cli.server.openai.responses_input import STATELESS
from lmsupply_cli.server.openai.responses_output import Output, Status, Wishes
from lmsupply_cli.server.sse import CONTENT_TYPE, PING, sse
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import streamed, whole
from lmsupply_cli.serving.requests import Answer


async def create(request: Request) -> Response:
    """One response, whole or as events."""
    body, state = await body_of(request, ResponsesBody), ServerState.of(request)
    asked = await worked_out(request, body.request)
    answer = await ask(request, body.model, asked, names=NAMES)
    reply = Reply(body, int(state.clock()))
    if not body.stream:
        return JSONResponse(reply.finished(await whole(request, answer, listen=reply.listen)))
    return streamed(
        reply.frames(answer),
        cancel=answer.cancel,
        failed=reply.failed,
        media_type=CONTENT_TYPE,
        ping=PING if state.options.ping_s else b"",
        ping_s=state.options.ping_s,
        ping_first=False,
    )


async def count_tokens(request: Request) -> Response:
    """The tokens of a prompt."""
    body = await body_of(request, PromptBody)
    asked = await worked_out(request, body.request)
    tokens = await count(request, body.model, asked, names=NAMES)
    return JSONResponse({"object": "response.input_tokens", "input_tokens": tokens})


async def stored(request: Request) -> Response:
    """A response of before."""
    raise ApiError(404, STATELESS, "response_not_found", "response_id")


class Reply:
    """The response object, and the events of its stream."""

    def __init__(self, body: ResponsesBody, created: int) -> None:
        self._body, self._created, self._id = body, created, f"resp_{token_hex(16)}"
        self._number = 0
        self.output = Output(
            Wishes(
                summary=bool(body.reasoning.summary or body.reasoning.generate_summary),
                encrypted=ENCRYPTED in body.include,
                functions=body.functions,
                streamed=body.stream,
            )
        )

    def listen(self, event: GenerationEvent) -> None:
        """An event of an answer that is not streamed."""
        for _ in self.output.add(event):
            pass

    async def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """The whole stream. Raises ApiError for an answer without an end."""
        yield self._frame(type="response.created", response=self._object("in_progress"))
        yield self._frame(type="response.in_progress", response=self._object("in_progress"))
        async for event in answer:
            for found in self.output.add(event):
                yield self._frame(**found)
            if isinstance(event, Finished):
                for found in self.output.finish(_status(event)):
                    yield self._frame(**found)
                last = self.finished(event)
                yield self._frame(type=f"response.{last['status']}", response=last)
                return
        raise ApiError(502, "the answer ended before it was complete", "worker_died")

    def failed(self, error: ApiError) -> bytes:
        """The last event of a stream that an error ended."""
        code = error.code if error.status < 500 else "server_error"
        failed = self._object("failed", error={"code": code, "message": error.message})
        return self._frame(type="response.failed", response=failed)

    def finished(self, end: Finished | Completion) -> dict[str, Any]:
        """The response after its end. Raises ApiError for an answer that the server ended."""
        status = _status(end)
        for _ in self.output.finish(status):
            pass
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return self._object(status, incomplete_details=details, usage=_usage(end.usage))

    def _frame(self, **event: Any) -> bytes:
        name, self._number = event["type"], self._number + 1
        return sse({**event, "sequence_number": self._number - 1}, event=name)

    def _object(self, status: str, **end: Any) -> dict[str, Any]:
        given = {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "output": self.output.items,
            "previous_response_id": None,
            "store": False,
            "usage": None,
        }
        return given | self._body.shown | end


def _status(end: Finished | Completion) -> Status:
    return "incomplete" if finish_reason(end.finish_reason) == "length" else "completed"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


ROUTES = [
    Route("/v1/responses", create, methods=["POST"]),
    Route("/v1/responses/input_tokens", count_tokens, methods=["POST"]),
    Route("/v1/responses/{response_id}", stored, methods=["GET", "DELETE"]),
]
