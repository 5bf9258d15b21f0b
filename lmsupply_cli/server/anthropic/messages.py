"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmsupply_cli.server.anthropic.body import NAMES, MessagesBody, PromptBody
from lmsupply_cli.server.anthropic.reply import PING, Reply, failed
from lmsupply_cli.server.asking import ask, body_of, count, worked_out
from lmsupply_cli.server.errors import ApiError
from lmsupply_cli.server.sse import CONTENT_TYPE
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import streamed, whole

T = TypeVar("T")
_OWN_NAMES = (
    "set ANTHROPIC_MODEL, ANTHROPIC_DEFAULT_OPUS_MODEL, ANTHROPIC_DEFAULT_SONNET_MODEL and ANTHROPIC_DEFAULT_HAIKU_MODEL "
    "to a model of `lmsupply models --installed`"
)


async def create(request: Request) -> Response:
    """One message, whole or as events."""
    body, state = await body_of(request, MessagesBody), ServerState.of(request)
    asked = await worked_out(request, body.request)
    answer = await _helped(ask(request, body.model, asked, names=NAMES), body.model)
    reply = Reply(body)
    if not body.stream:
        return JSONResponse(reply.whole(await whole(request, answer, listen=reply.listen)))
    return streamed(
        reply.frames(answer),
        cancel=answer.cancel,
        failed=failed,
        media_type=CONTENT_TYPE,
        ping=PING if state.options.ping_s else b"",
        ping_s=state.options.ping_s,
        ping_first=False,
    )


async def count_tokens(request: Request) -> Response:
    """The tokens of a prompt."""
    body = await body_of(request, PromptBody)
    asked = await worked_out(request, body.request)
    tokens = await _helped(count(request, body.model, asked, names=NAMES), body.model)
    return JSONResponse({"input_tokens": tokens})


async def _helped(work: Awaitable[T], model: str) -> T:
    """Clients of Anthropic's ask for its models until they are told otherwise, and shorten a conversation when the message
    begins with "prompt is too long"."""
    try:
        return await work
    except ApiError as error:
        if error.code == "context_length_exceeded":
            error.message = error.message.removeprefix(f"{error.param}: ")
        if error.status == 404 and model.startswith("claude"):
            error.message += f"; {_OWN_NAMES}"
        raise


ROUTES = [
    Route("/v1/messages", create, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
]
