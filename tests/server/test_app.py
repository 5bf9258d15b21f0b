"""What no single endpoint does: unknown paths, request ids, models, health and metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.api import client_of
from support.fake_models import TINY, FakeModels

from lmsupply_cli.server.app import make_app
from lmsupply_cli.server.state import ServerState

HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


# paths


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/embeddings", "embeddings are not supported"),
        ("/chat/completions", "ends in /v1"),
        ("/v1/v1/chat/completions", "must not end in /v1"),
        ("/v1/chat/completion", "did you mean /v1/chat/completions?"),
        ("/nowhere", "there is no /nowhere"),
    ],
)
def test_an_unknown_path_says_what_may_be_meant(path: str, said: str) -> None:
    reply = client_of().post(path, json=HELLO)
    assert reply.status_code == 404
    assert said in reply.json()["error"]["message"]
    assert reply.json()["error"]["code"] == "unknown_url"


def test_errors_are_in_the_words_of_the_api() -> None:
    client = client_of()
    assert client.post("/v1/messages/nowhere").json()["error"]["type"] == "not_found_error"
    assert isinstance(client.post("/api/nowhere").json()["error"], str)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_wrong_method_is_405_and_says_which_is_right(path: str) -> None:
    reply = client_of().get(path)
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"
    assert "POST" in reply.json()["error"]["message"]


def test_a_slash_at_the_end_is_another_path() -> None:
    assert client_of().post(f"{CHAT}/", json=HELLO, follow_redirects=False).status_code == 404


def test_every_answer_has_an_id_of_its_own() -> None:
    client = client_of()
    ids = [client.get(path).headers["x-request-id"] for path in ("/health", "/health", "/nowhere", "/v1/models")]
    assert len(set(ids)) == 4
    assert client.post("/v1/messages", json={}).headers["request-id"].startswith("req_")


def test_a_bug_is_a_500_without_details() -> None:
    class Broken(FakeModels):
        def installed(self) -> Any:
            raise RuntimeError("a path: /home/me")

    client = TestClient(make_app(ServerState(Broken())), base_url="http://localhost", raise_server_exceptions=False)
    reply = client.get("/v1/models")
    assert reply.status_code == 500
    assert reply.json()["error"]["type"] == "server_error"
    assert "/home/me" not in reply.text


# models


def test_models_with_their_context_and_the_array_that_codex_reads() -> None:
    models = FakeModels(
        models=(TINY, replace(TINY, ref="owner/name", aliases=(), context_length=32_768, thinking=True))
    )
    found = client_of(models).get("/v1/models").json()
    assert found["object"] == "list"
    assert found["models"] == []
    assert [(row["id"], row["owned_by"], row["context_length"]) for row in found["data"]] == [
        ("tiny", "lmsupply", 4096), ("owner/name", "owner", 32_768),
    ]  # fmt: skip
    assert {row["object"] for row in found["data"]} == {"model"}
    assert found["data"][0]["created"] == 1_700_000_000
    assert found["data"][1]["capabilities"] == ["completion", "tools", "thinking"]


@pytest.mark.parametrize(("name", "ref"), [("tiny", "tiny"), ("fast", "tiny"), ("owner/name", "owner/name")])
def test_one_model_by_its_name_or_alias(name: str, ref: str) -> None:
    models = FakeModels(models=(TINY, replace(TINY, ref="owner/name", aliases=())))
    assert client_of(models).get(f"/v1/models/{name}").json()["id"] == ref


def test_a_model_that_is_not_here() -> None:
    reply = client_of().get("/v1/models/nope")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"


def test_head_where_clients_probe() -> None:
    client = client_of()
    for path in ("/v1/models", "/health", "/metrics"):
        reply = client.head(path)
        assert (reply.status_code, reply.content) == (200, b"")


# metrics


def numbers(client: TestClient) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_count_requests_tokens_and_models() -> None:
    client = client_of()
    client.post(CHAT, json=HELLO)
    client.post(CHAT, json=HELLO | {"stream": True})
    client.post(CHAT, json={})
    client.get("/nowhere/1")
    client.get("/nowhere/2")
    found = numbers(client)
    assert found[f'lmsupply_requests_total{{route="{CHAT}",status="200"}}'] == 2
    assert found[f'lmsupply_requests_total{{route="{CHAT}",status="400"}}'] == 1
    assert found['lmsupply_requests_total{route="other",status="404"}'] == 2, "clients make no labels"
    assert found['lmsupply_answers_total{finish_reason="stop"}'] == 2
    assert [found[f'lmsupply_tokens_total{{kind="{kind}"}}'] for kind in ("prompt", "cached", "completion")] == [
        14,
        6,
        4,
    ]
    assert found["lmsupply_time_to_first_token_seconds_count"] == 2
    assert found["lmsupply_models_loaded"] == 1
    assert found['lmsupply_model_memory_bytes{model="tiny"}'] == 5_000_000
    assert found['lmsupply_model_requests_waiting{model="tiny"}'] == 0


def test_metrics_belong_to_one_application() -> None:
    client_of().post(CHAT, json=HELLO)
    assert "lmsupply_answers_total" not in "".join(numbers(client_of()))
