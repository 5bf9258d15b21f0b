"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lmsupply_cli.server.state import ServerState
from lmsupply_cli.serving.requests import ServedModel


async def list_models(request: Request) -> Response:
    """Codex reads `models` and stops without it. It is empty: an entry would replace the instructions that Codex has for
    models it does not know."""
    rows = [_row(model) for model in ServerState.of(request).models.installed()]
    return JSONResponse({"object": "list", "data": rows, "models": []})


async def one_model(request: Request) -> Response:
    """By ref or alias."""
    return JSONResponse(_row(ServerState.of(request).find(request.path_params["model"])))


def _row(model: ServedModel) -> dict[str, Any]:
    owner = model.ref.partition("/")[0] if "/" in model.ref else "lmsupply"
    return {
        "id": model.ref,
        "object": "model",
        "created": int(model.modified),
        "owned_by": owner,
        "aliases": list(model.aliases),
        "context_length": model.context_length,
        "max_context_window": model.context_length,
        "capabilities": ["completion", *(["tools"] if model.tools else []), *(["thinking"] if model.thinking else [])],
        "loaded": model.loaded,
    }


ROUTES = [Route("/v1/models", list_models), Route("/v1/models/{model:path}", one_model)]
