"""The server as its clients see it: without a socket, on scripted models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
from starlette.testclient import TestClient
from support.fake_models import FakeModels

from lmsupply_cli.server.app import make_app
from lmsupply_cli.server.state import ServerOptions, ServerState
from lmsupply_cli.serving.requests import Models

FIXTURES = Path(__file__).parents[1] / "server" / "fixtures"
URL = "http://localhost"


def client_of(models: Models | None = None, **options: Any) -> TestClient:
    """A client of a server on these models."""
    state = ServerState(models or FakeModels(), ServerOptions(**options), clock=lambda: 1_700_000_000.9)
    return TestClient(make_app(state), base_url=URL)


def http_client_of(models: Models) -> httpx2.AsyncClient:
    """For the SDKs, which bring their own client."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(make_app(ServerState(models))), base_url=URL)


def fixture(name: str) -> dict[str, Any]:
    """A request as a client sends it."""
    found: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, data) of each server-sent event."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            found.append((fields.get("event", ""), json.loads(fields["data"])))
    return found
