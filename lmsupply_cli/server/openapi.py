"""GET /openapi.json: the API as a document, made of the bodies that requests are checked with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lmsupply_cli._version import __version__
from lmsupply_cli.server.anthropic.body import MessagesBody
from lmsupply_cli.server.anthropic.body import PromptBody as AnthropicPrompt
from lmsupply_cli.server.body import Body
from lmsupply_cli.server.ollama.chat import ChatBody as OllamaChat
from lmsupply_cli.server.ollama.generate import GenerateBody
from lmsupply_cli.server.ollama.models import ShowBody
from lmsupply_cli.server.openai.chat_body import ChatBody
from lmsupply_cli.server.openai.completions_body import CompletionBody
from lmsupply_cli.server.openai.responses_body import PromptBody as ResponsesPrompt
from lmsupply_cli.server.openai.responses_body import ResponsesBody
from lmsupply_cli.server.rendering import is_anthropic, is_ollama

BODIES: Mapping[str, type[Body]] = {
    "/v1/chat/completions": ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/responses": ResponsesBody,
    "/v1/responses/input_tokens": ResponsesPrompt,
    "/v1/messages": MessagesBody,
    "/v1/messages/count_tokens": AnthropicPrompt,
    "/api/chat": OllamaChat,
    "/api/generate": GenerateBody,
    "/api/show": ShowBody,
}
_VERSION = "3.1.0"
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {}}}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1. Each object of a body has a name that begins with the body's, since APIs use the same words."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for route in routes:
        path = re.sub(r"\{(\w+)(?::\w+)?\}", r"{\1}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(route, path, method, schemas)
    return {
        "openapi": _VERSION,
        "info": {"title": "lmsupply", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def _operation(route: Route, path: str, method: str, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', path)}",
        "summary": (route.endpoint.__doc__ or "").strip().split("\n")[0],
        "tags": ["Anthropic" if is_anthropic(path) else "Ollama" if is_ollama(path) else "OpenAI"],
        "responses": {
            "200": {"description": "an answer"},
            "4XX": {"description": "a request that is wrong", "content": {"application/json": {"schema": _ERROR}}},
            "5XX": {"description": "a model that failed", "content": {"application/json": {"schema": _ERROR}}},
        },
    }
    if names := re.findall(r"\{(\w+)\}", path):
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if method == "POST" and (body := BODIES.get(path)):
        schema = _schema(body, path, schemas)
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described


def _schema(body: type[Body], path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the body's schema, which is added with those that it needs."""
    prefix = "".join(word.capitalize() for word in re.findall(r"[a-z]+", path)[1:])
    template = f"#/components/schemas/{prefix}{{model}}"
    schema = body.model_json_schema(ref_template=template)
    for name, part in schema.pop("$defs", {}).items():
        schemas[prefix + name] = part
    schemas[prefix] = schema
    return {"$ref": f"#/components/schemas/{prefix}"}


async def openapi(request: Request) -> JSONResponse:
    """This document."""
    return JSONResponse(document([route for route in request.app.routes if isinstance(route, Route)]))


ROUTES = [Route("/openapi.json", openapi)]
