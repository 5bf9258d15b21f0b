"""Large bodies are read in a process of their own, with the same results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.api import URL
from support.fake_models import FakeModels

from lmsupply_cli.server import reading
from lmsupply_cli.server.app import make_app
from lmsupply_cli.server.body import Body
from lmsupply_cli.server.errors import ApiError
from lmsupply_cli.server.openai.chat_body import ChatBody
from lmsupply_cli.server.reading import BodyReader, has_more_values, is_small
from lmsupply_cli.server.state import ServerState

LONG = "words " * 100_000
USER = {"role": "user", "content": "hi"}
CALL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def reader() -> Iterator[BodyReader]:
    made = BodyReader()
    yield made
    made.close()


def read(reader: BodyReader, body: Any, form: type[Body] = ChatBody) -> Body:
    return asyncio.run(reader.read(form, json.dumps(body).encode()))


def test_which_bodies_are_large() -> None:
    assert is_small(json.dumps({"model": "tiny", "messages": [USER] * 1000}).encode())
    assert not is_small(json.dumps({"model": "tiny", "messages": [USER] * 5000}).encode())
    assert not is_small(json.dumps({"prompt": LONG}).encode())


def test_what_is_read_is_the_same(reader: BodyReader) -> None:
    body = {"model": "tiny", "messages": [USER, {"role": "user", "content": LONG}], "tools": [CALL], "n": 2}
    assert read(reader, body) == ChatBody.of(body)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "tiny", "messages": [USER] * 10_001},
        {"model": "tiny", "messages": [USER, {"role": "robot", "content": LONG}]},
        {"model": "tiny", "messages": [USER], "mood": LONG},
        {"messages": [{"role": "user", "content": LONG}]},
        [LONG],
    ],
)
def test_what_is_wrong_is_told_as_well(reader: BodyReader, body: Any) -> None:
    with pytest.raises(ApiError) as expected:
        ChatBody.read(json.dumps(body).encode())
    with pytest.raises(ApiError) as caught:
        read(reader, body)
    assert caught.value.openai() == expected.value.openai()


def test_bodies_of_too_many_values_are_refused(reader: BodyReader) -> None:
    with pytest.raises(ApiError, match="200,000 values"):
        read(reader, {"model": "tiny", "messages": [USER], "metadata": ["x"] * 200_001})


@pytest.mark.parametrize(
    ("value", "most", "more"),
    [
        ({"a": 1, "b": 2}, 2, False),
        ({"a": 1, "b": 2}, 1, True),
        ({"a": {"b": {"c": 1}}}, 3, False),
        ({"a": {"b": {"c": 1}}}, 2, True),
        ({"a": ["x", [], {}]}, 4, False),
        ({"a": ["x", [], {}]}, 3, True),
        ({"a": [1] * 50}, 11, False),
        ({"a": [1] * 50}, 10, True),
    ],
)
def test_values_are_counted(value: Any, most: int, more: bool) -> None:
    assert has_more_values(value, most) is more


def test_a_process_that_has_ended_is_started_again(reader: BodyReader) -> None:
    body = {"model": "tiny", "messages": [USER]}
    read(reader, body)
    first = reader._process
    assert first is not None
    first.kill()
    first.wait()
    assert read(reader, body) == ChatBody.of(body)
    assert reader._process is not first


def test_a_process_that_cannot_live_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_START", "raise SystemExit")
    broken = BodyReader()
    with pytest.raises(ApiError) as caught:
        read(broken, {"model": "tiny", "messages": [USER]})
    broken.close()
    assert (caught.value.status, caught.value.code) == (503, "not_read")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}),
        ("/v1/completions", {"prompt": LONG}),
        ("/v1/responses", {"input": LONG}),
        ("/v1/responses/input_tokens", {"input": LONG}),
        ("/v1/messages", {"messages": [{"role": "user", "content": LONG}], "max_tokens": 5}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": LONG}]}),
        ("/api/chat", {"messages": [{"role": "user", "content": LONG}], "stream": False}),
        ("/api/generate", {"prompt": LONG, "stream": False}),
    ],
)
def test_every_endpoint_takes_large_bodies(reader: BodyReader, path: str, body: dict[str, Any]) -> None:
    models = FakeModels()
    client = TestClient(make_app(ServerState(models, reader=reader)), base_url=URL)
    reply = client.post(path, json={"model": "tiny", **body})
    assert reply.status_code == 200, reply.text
    for _, asked, _ in models.asked:
        assert LONG in (asked.text, *(message.content for message in asked.messages))


# what is refused, large or not


@pytest.mark.parametrize(
    "text", ['{"model": "a", "model": "b"}', '{"model": "a", "messages": [{"role": 1, "role": 2}]}']
)
def test_a_field_twice_is_an_error(text: str) -> None:
    with pytest.raises(ApiError, match="is there twice") as caught:
        ChatBody.read(text.encode())
    assert caught.value.code == "invalid_json"


def test_names_of_fields_are_cut_in_errors() -> None:
    with pytest.raises(ApiError) as caught:
        ChatBody.of({"model": "tiny", "messages": [USER], "x" * 10_000: 1})
    assert len(caught.value.message) < 200
    assert len(caught.value.param) <= 100


@pytest.mark.parametrize(
    ("path", "field", "body"),
    [
        ("/v1/responses", "input", {"input": [USER] * 10_001}),
        ("/v1/responses", "tools", {"input": "hi", "tools": [{"type": "function", "name": "a"}] * 1001}),
        ("/v1/responses", "metadata", {"input": "hi", "metadata": {str(n): "" for n in range(65)}}),
        ("/v1/messages", "messages", {"messages": [USER] * 10_001, "max_tokens": 5}),
        ("/v1/messages", "tools", {"messages": [USER], "max_tokens": 5, "tools": [{"name": "a", "input_schema": {}}] * 1001}),
        ("/v1/messages", "stop_sequences", {"messages": [USER], "max_tokens": 5, "stop_sequences": ["a"] * 65}),
        ("/api/chat", "messages", {"messages": [USER] * 10_001}),
        ("/api/chat", "tools", {"messages": [USER], "tools": [CALL] * 1001}),
        ("/api/chat", "options.stop", {"messages": [USER], "options": {"stop": ["a"] * 65}}),
    ],
)  # fmt: skip
def test_lists_have_limits_in_every_api(reader: BodyReader, path: str, field: str, body: dict[str, Any]) -> None:
    models = FakeModels()
    client = TestClient(make_app(ServerState(models, reader=reader)), base_url=URL)
    reply = client.post(path, json={"model": "tiny", **body})
    assert reply.status_code == 400
    assert f"{field}: " in reply.text
    assert not models.asked
