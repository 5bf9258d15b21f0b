"""Endpoints for lmsupply's own commands: `run` and `chat` with a model that is loaded already, `ps` and `stop`.

They speak one version with the commands: what is sent are the library's own requests, events and errors, so an answer is
the same as in the command's process. They are open for whoever can read the record of the running server, which is the user
who started it, with or without the keys of the other endpoints.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.server.asking import measured_answer, while_connected
from lmsupply_cli.server.errors import ApiError, as_api_error
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import streamed
from lmsupply_cli.serving import wire
from lmsupply_cli.serving.requests import Answer

Handler = Callable[[Request, dict[str, Any]], Awaitable[Response]]


class Own:
    """POST with the token alone; other requests see no endpoint. Not part of the document of the API."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        token, given = ServerState.of(request).options.token, request.headers.get(wire.TOKEN, "")
        if not token or request.method != "POST" or not hmac.compare_digest(token.encode(), given.encode()):
            raise ApiError(404, f"{request.url.path} requires a token", "unknown_url")
        try:
            response = await self._handler(request, _object(await request.body()))
        except LmsupplyError as error:
            response = JSONResponse({"error": wire.error_row(error)}, as_api_error(error).status)
        await response(scope, receive, send)


def _object(body: bytes) -> dict[str, Any]:
    """Raises UsageError."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not valid JSON") from error
    if not isinstance(found, dict):
        raise UsageError("the body must be a JSON object")
    return found


async def loaded(request: Request, body: dict[str, Any]) -> Response:
    """The models in memory."""
    return JSONResponse({"models": [asdict(worker) for worker in ServerState.of(request).models.loaded()]})


async def find(request: Request, body: dict[str, Any]) -> Response:
    """The ref of a model, by any of its names."""
    return JSONResponse({"ref": ServerState.of(request).models.find(str(body.get("model"))).ref})


async def load(request: Request, body: dict[str, Any]) -> Response:
    """Load a model."""
    await while_connected(request, ServerState.of(request).models.load(str(body.get("model"))))
    return JSONResponse({})


async def unload(request: Request, body: dict[str, Any]) -> Response:
    """Unload a model, after its running answers."""
    models = ServerState.of(request).models
    ref = models.find(str(body.get("model"))).ref
    return JSONResponse({"ref": ref, "unloaded": await models.unload(ref)})


async def warm(request: Request, body: dict[str, Any]) -> Response:
    """How a model was loaded, null for one that is not."""
    found = ServerState.of(request).models.warm(str(body.get("model")))
    return JSONResponse({"model": asdict(wire.WarmRow.of(found)) if found else None})


async def answer(request: Request, body: dict[str, Any]) -> Response:
    """First the tokens of the prompt, then each event, line by line. `id`: what `cancel` calls it."""
    asked, key, running = wire.request_of(body.get("request")), str(body.get("id")), _running(request)
    found = await while_connected(request, measured_answer(request, str(body.get("model")), asked))
    running[key] = found

    def ended() -> None:
        running.pop(key, None)
        found.cancel()

    return streamed(_lines(found), cancel=ended, failed=_failed, media_type="application/x-ndjson")


async def _lines(answer: Answer) -> AsyncIterator[bytes]:
    yield _line({"prompt_tokens": answer.prompt_tokens})
    try:
        for notice in answer.notices:
            yield _line(wire.event_row(notice))
        async for event in answer:
            yield _line(wire.event_row(event))
    except LmsupplyError as error:
        yield _line({"error": wire.error_row(error)})


def _failed(error: ApiError) -> bytes:
    return _line({"error": {"code": error.code, "message": error.message}})


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode() + b"\n"


async def cancel(request: Request, body: dict[str, Any]) -> Response:
    """End an answer; its last event follows."""
    if found := _running(request).get(str(body.get("id"))):
        found.cancel()
    return JSONResponse({})


def _running(request: Request) -> dict[str, Answer]:
    """By the ids that the commands gave them."""
    state = request.app.state
    if not hasattr(state, "own_answers"):
        state.own_answers = {}
    running: dict[str, Answer] = state.own_answers
    return running


ROUTES = [
    Route(wire.ANSWER, Own(answer)),
    Route(wire.CANCEL, Own(cancel)),
    Route(wire.FIND, Own(find)),
    Route(wire.LOAD, Own(load)),
    Route(wire.LOADED, Own(loaded)),
    Route(wire.UNLOAD, Own(unload)),
    Route(wire.WARM, Own(warm)),
]
