"""The application: every route, and what happens to errors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmsupply_cli.errors import LmsupplyError, did_you_mean
from lmsupply_cli.server.errors import ApiError, as_api_error
from lmsupply_cli.server.observing import Observer
from lmsupply_cli.server.rendering import error_response
from lmsupply_cli.server.security import secured
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import ClientGone

LOG = logging.getLogger("lmsupply.server")
_MODULES = ("metrics", "openapi", "openai", "anthropic", "ollama", "own")
_CLIENT_GONE = 499  # nobody reads it; the status of nginx, for the metrics
_NOT_HERE = {
    "/v1/embeddings": "embeddings are not supported",
    "/v1/images/generations": "images are not supported",
    "/v1/audio/transcriptions": "audio is not supported",
    "/v1/audio/speech": "audio is not supported",
    "/v1/moderations": "moderation is not supported",
}


def make_app(state: ServerState) -> Starlette:
    """An application for uvicorn or a test client."""
    routes = all_routes()
    app = Starlette(
        routes=routes,
        exception_handlers={
            ApiError: _api_error,
            LmsupplyError: _library_error,
            HTTPException: _http_error,
            ClientGone: _client_gone,
            Exception: _bug,
        },
    )
    app.router.redirect_slashes = False
    app.state.server = state
    for middleware, options in reversed(secured(state.options)):
        app.add_middleware(middleware, **options)
    app.add_middleware(Observer, metrics=state.metrics, routes=routes, log=state.options.log_requests)
    return app


def all_routes() -> list[Route]:
    """Those of every API."""
    routes: list[Route] = []
    for name in _MODULES:
        routes += getattr(import_module(f"lmsupply_cli.server.{name}"), "ROUTES", [])
    return routes


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_response(error, request.url.path)


async def _library_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, LmsupplyError)
    return error_response(as_api_error(error), request.url.path)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """An unknown path or method."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        found = ApiError(404, _no_path(path, request.app.routes), "unknown_url")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        found = ApiError(405, f"{path} does not take {request.method}, but {allowed}", "method_not_allowed")
    else:
        found = ApiError(error.status_code, str(error.detail))
    response = error_response(found, path)
    response.headers.update(error.headers or {})
    return response


def _no_path(path: str, routes: Sequence[object]) -> str:
    if path in _NOT_HERE:
        return f"{path}: {_NOT_HERE[path]}"
    known = [route.path for route in routes if isinstance(route, Route)]
    if f"/v1{path}" in known:
        return f"there is no {path}: the base URL of an OpenAI client ends in /v1"
    if path.startswith("/v1/v1/"):
        return f"there is no {path}: the base URL of this client must not end in /v1"
    near = did_you_mean(path, known, "", cutoff=0.8)
    return f"there is no {path}" + (f" ({near})" if near else "")


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    """Starlette raises it again afterwards, so that the server logs where it came from."""
    return error_response(ApiError(500, f"a bug in lmsupply: {type(error).__name__}", "bug"), request.url.path)
