"""Responses that belong to no endpoint: errors in the words of the API that was called."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from lmsupply_cli.server.errors import ApiError


def error_response(error: ApiError, path: str) -> JSONResponse:
    """As the API of this path says it."""
    return JSONResponse(error_content(error, path), error.status, headers=error.headers)


def error_content(error: ApiError, path: str) -> dict[str, Any]:
    if is_anthropic(path):
        return error.anthropic()
    return error.ollama() if is_ollama(path) else error.openai()


def is_anthropic(path: str) -> bool:
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def is_ollama(path: str) -> bool:
    return path in ("/", "/api") or path.startswith("/api/")
