"""The server, and its models."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lmsupply_cli._version import __version__
from lmsupply_cli.server.asking import body_of
from lmsupply_cli.server.body import Body
from lmsupply_cli.server.errors import bad_field
from lmsupply_cli.server.ollama.fields import TAG
from lmsupply_cli.server.ollama.reply import timestamp
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.serving.requests import LoadedWorker, ServedModel

API_VERSION = "0.12.11"  # of Ollama whose API this follows: clients compare it
_NEVER_S = 100 * 365.25 * 86400.0


async def root(request: Request) -> Response:
    """Clients look for exactly these words; a person with a browser gets others."""
    if "text/html" in request.headers.get("accept", ""):
        return PlainTextResponse(f"lmsupply {__version__} is running. Its APIs: /openapi.json\n")
    return PlainTextResponse("Ollama is running")


async def version(request: Request) -> Response:
    """Of the API, and our own."""
    return JSONResponse({"version": API_VERSION, "lmsupply_version": __version__})


async def tags(request: Request) -> Response:
    """The installed models."""
    return JSONResponse({"models": [_row(model) for model in ServerState.of(request).models.installed()]})


async def ps(request: Request) -> Response:
    """The models in memory."""
    state = ServerState.of(request)
    return JSONResponse({"models": [_loaded(state, worker) for worker in state.models.loaded()]})


class ShowBody(Body):
    """`name` is the older name of `model`."""

    model: str = ""
    name: str = ""
    no_effect = frozenset({"verbose", "system", "template", "options"})


async def show(request: Request) -> Response:
    """What is known of a model."""
    body = await body_of(request, ShowBody)
    if not (name := body.model or body.name):
        raise bad_field("model", "model is missing", code="missing_required_parameter")
    model = ServerState.of(request).find(name.removesuffix(TAG) or name)
    capabilities = ["completion", *(["tools"] if model.tools else []), *(["thinking"] if model.thinking else [])]
    return JSONResponse(
        {
            "license": model.license,
            "modelfile": f"# {model.ref} runs on lmsupply, which has no modelfiles\nFROM {model.ref}\n",
            "parameters": f"num_ctx                        {model.context_length}",
            "template": "{{ .Prompt }}",
            "details": _details(model),
            "model_info": _info(model),
            "capabilities": capabilities,
            "modified_at": timestamp(model.modified),
        }
    )


def tagged(ref: str) -> str:
    """A name as clients expect it, with a tag."""
    return ref if ":" in ref else ref + TAG


def _row(model: ServedModel) -> dict[str, Any]:
    return {
        "name": tagged(model.ref),
        "model": tagged(model.ref),
        "modified_at": timestamp(model.modified),
        "size": model.size_bytes,
        "digest": model.digest,
        "details": _details(model),
    }


def _details(model: ServedModel) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "onnx",
        "family": model.family,
        "families": [model.family] if model.family else [],
        "parameter_size": _parameters(model.parameters),
        "quantization_level": model.precision.upper(),
    }


def _parameters(billions: float | None) -> str:
    if billions is None:
        return ""
    return f"{billions:g}B" if billions >= 1 else f"{billions * 1000:g}M"


def _info(model: ServedModel) -> dict[str, Any]:
    family = model.family or "unknown"
    count = {} if model.parameters is None else {"general.parameter_count": round(model.parameters * 1e9)}
    return {"general.architecture": family, **count, f"{family}.context_length": model.context_length}


def _loaded(state: ServerState, worker: LoadedWorker) -> dict[str, Any]:
    """`size_vram`: what is on a GPU."""
    left = _NEVER_S if worker.expires_s is None else worker.expires_s
    found = next((model for model in state.models.installed() if model.ref == worker.ref), None)
    row = _row(found) if found else {"name": tagged(worker.ref), "model": tagged(worker.ref)}  # removed meanwhile
    row.pop("modified_at", None)
    return row | {
        "size": worker.bytes,
        "expires_at": timestamp(state.clock() + left),
        "size_vram": 0 if worker.provider == "cpu" else worker.bytes,
        "context_length": worker.context_tokens,
    }


ROUTES = [
    Route("/", root),
    Route("/api/version", version),
    Route("/api/tags", tags),
    Route("/api/ps", ps),
    Route("/api/show", show, methods=["POST"]),
]
