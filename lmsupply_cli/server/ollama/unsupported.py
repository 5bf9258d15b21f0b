"""Endpoints of Ollama that are not here."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lmsupply_cli.server.errors import ApiError
from lmsupply_cli.server.rendering import error_response

_INSTEAD = {
    "/api/create": "models are made with lmsupply add and lmsupply convert",
    "/api/copy": "lmsupply add FOLDER NAME gives a model another name",
    "/api/push": "models are not uploaded",
    "/api/pull": "lmsupply pull MODEL downloads a model; the server only runs those that are installed",
    "/api/delete": "lmsupply rm MODEL removes a model",
    "/api/embed": "embeddings are not supported",
    "/api/embeddings": "embeddings are not supported",
    "/api/blobs/{digest}": "models are made with lmsupply add and lmsupply convert",
}


class Unsupported:
    """Answers 501, whatever the method."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = Request(scope).url.path
        error = ApiError(501, f"{path} is not supported here: {self._reason}", "not_supported")
        await error_response(error, path)(scope, receive, send)


ROUTES = [Route(path, Unsupported(reason)) for path, reason in _INSTEAD.items()]
