"""Requests to Ollama's API that are wrong: each is refused with the field named, and no model is asked or loaded."""

from __future__ import annotations

from typing import Any

import pytest
from support.api import client_of
from support.fake_models import FakeModels

CHAT, GENERATE, SHOW = "/api/chat", "/api/generate", "/api/show"
USER = {"role": "user", "content": "hi"}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"function": {"name": "add", "arguments": {}}}


def of(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def option(name: str, value: Any) -> tuple[str, dict[str, Any]]:
    return f"options.{name}", {"options": {name: value}}


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "add"} | function}]}


BOTH: list[tuple[str, dict[str, Any]]] = [
    # (the field that is named, what is wrong)
    ("model", {"model": None}),
    ("model", {"model": ""}),
    ("model", {"model": 7}),
    ("stream", {"stream": "yes"}),
    ("stream", {"stream": 1}),
    ("format", {"format": "xml"}),
    ("format", {"format": 7}),
    ("format", {"format": ["json"]}),
    ("format", {"format": {"type": "object", "not": {"type": "string"}}}),
    ("format", {"format": {"type": "objekt"}}),
    ("think", {"think": "deeply"}),
    ("think", {"think": 1}),
    ("think", {"think": True}),
    ("think", {"think": "high"}),
    ("keep_alive", {"keep_alive": "five minutes"}),
    ("keep_alive", {"keep_alive": "5 m"}),
    ("keep_alive", {"keep_alive": ""}),
    ("keep_alive", {"keep_alive": True}),
    ("keep_alive", {"keep_alive": [5]}),
    ("logprobs", {"logprobs": 1}),
    ("top_logprobs", {"top_logprobs": 3}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": -1}),
    ("truncate", {"truncate": True}),
    ("shift", {"shift": True}),
    ("images", {"images": ["aGk="]}),
    ("options", {"options": [1]}),
    ("temperature", {"temperature": 0.5}),  # belongs in options
    ("tool_choice", {"tool_choice": "required"}),
    option("temperature", -1),
    option("temperature", "hot"),
    option("temperature", True),
    option("top_p", 2),
    option("top_k", -2),
    option("top_k", 1.5),
    option("min_p", -0.1),
    option("repeat_penalty", 0),
    option("presence_penalty", 3),
    option("frequency_penalty", -3),
    option("seed", 1.5),
    option("stop", 7),
    option("stop", [""]),
    option("stop", [1]),
    option("num_predict", 0),
    option("num_predict", -3),
    option("num_ctx", 0),
    option("num_ctx", 100_000),
    option("num_ctx", "4096"),
    option("mirostat", 1),
    option("tfs_z", 0.9),
    option("typical_p", 0.9),
    option("repeat_last_n", 64),
    option("penalize_newline", False),
    option("vocab_only", True),
    option("embedding_only", True),
    option("temprature", 1),
]
CHATS: list[tuple[str, dict[str, Any]]] = [
    ("messages", {"messages": "hi"}),
    ("messages[0]", of("hi")),
    ("messages[0].role", of({"content": "hi"})),
    ("messages[0].role", of({"role": "developer", "content": "hi"})),
    ("messages[1].content", of(USER, {"role": "user"})),
    ("messages[0].content", of({"role": "user", "content": [{"type": "text", "text": "hi"}]})),
    ("messages[0].images", of({"role": "user", "content": "hi", "images": ["aGk="]})),
    ("messages[0].name", of({"role": "user", "content": "hi", "name": "bob"})),
    ("messages[0].tool_calls", of({"role": "user", "content": "hi", "tool_calls": [CALL]})),
    ("messages[0].tool_name", of({"role": "user", "content": "hi", "tool_name": "add"})),
    ("messages[0].role", of({"role": "tool", "content": "3"})),
    ("messages[0].tool_name", of({"role": "tool", "content": "3", "tool_name": "add"})),
    ("messages[0].tool_call_id", of({"role": "tool", "content": "3", "tool_call_id": "c1"})),
    (
        "messages[1].tool_calls[0].function.arguments",
        of(USER, {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}),
    ),
    (
        "messages[1].tool_calls[0].function.name",
        of(USER, {"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}),
    ),
    ("tools", {"tools": ADD}),
    ("tools[0].type", {"tools": [{"function": {"name": "add"}}]}),
    ("tools[0].type", {"tools": [{"type": "mcp", "function": {"name": "add"}}]}),
    ("tools[0]", tool(name="no name")),
    ("tools[0]", tool(parameters={"type": "array"})),
    ("tools[0].function.examples", tool(examples=[])),
    ("tools[1]", {"tools": [ADD, ADD]}),
    ("prompt", {"prompt": "hi"}),
    ("format", {"format": {"type": "string", "contains": {}}}),
]
TEXTS: list[tuple[str, dict[str, Any]]] = [
    ("prompt", {"prompt": ["hi"]}),
    ("prompt", {"prompt": 7}),
    ("template", {"template": "{{ .Prompt }}"}),
    ("system", {"raw": True, "system": "Be brief."}),
    ("system", {"suffix": "x", "system": "Be brief."}),
    ("context", {"raw": True, "context": [1]}),
    ("context", {"context": [1, 2, 3]}),
    ("context", {"context": [0x6C6D73]}),
    ("context", {"context": [0x6C6D73, 0, 2**40]}),
    ("context", {"context": [0x6C6D73, 0, -1]}),
    ("context", {"context": "1 2 3"}),
    ("raw", {"raw": "yes"}),
    ("width", {"width": 512}),
    ("steps", {"steps": 20}),
    ("messages", {"messages": [USER]}),
    ("tools", {"tools": [ADD]}),
]
ALL = [
    *((CHAT, *row) for row in (*BOTH, *CHATS)),
    *((GENERATE, *row) for row in (*BOTH, *TEXTS)),
    (SHOW, "model", {"model": None}),
    (SHOW, "model", {"model": 7}),
    (SHOW, "quiet", {"quiet": True}),
]


@pytest.mark.parametrize(("path", "param", "changes"), ALL)
def test_it_is_refused_by_name(path: str, param: str, changes: dict[str, Any]) -> None:
    models = FakeModels()
    body: dict[str, Any] = {"model": "tiny"}
    more: dict[str, Any] = {CHAT: {"messages": [USER]}, GENERATE: {"prompt": "hi"}, SHOW: {}}[path]
    response = client_of(models).post(path, json=body | more | changes)
    assert response.status_code == 400, response.text
    assert param in response.json()["error"]
    assert not models.asked
    assert not models.in_memory


@pytest.mark.parametrize("path", [CHAT, GENERATE, SHOW])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"hi"', b"\xff", b'{"model": NaN}', b"[" * 100_000])
def test_what_is_no_object(path: str, data: bytes) -> None:
    response = client_of().post(path, content=data)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]


def test_errors_have_the_form_of_the_api_everywhere() -> None:
    client = client_of(api_keys=("secret",))
    for method, path in (("GET", "/api/tags"), ("POST", "/api/chat"), ("GET", "/")):
        response = client.request(method, path)
        assert response.status_code == 401
        assert isinstance(response.json()["error"], str)
    keyed = {"Authorization": "Bearer secret"}
    assert isinstance(client.get("/api/nothing", headers=keyed).json()["error"], str)
    assert isinstance(client.get("/api/chat", headers=keyed).json()["error"], str)
    assert client.get("/", headers=keyed).text == "Ollama is running"
