"""The endpoints for lmsupply's own commands: closed without the token, and exact."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from typing import Any

import pytest
from support.api import client_of
from support.fake_models import FakeModels, says

from lmsupply_cli import errors
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.tools.spec import ToolSpec
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import ContextOverflow, LmsupplyError, ServerGone, UsageError, WorkerDied
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    SpeculativeStats,
    TextDelta,
    TextWasReasoning,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from lmsupply_cli.serving import wire
from lmsupply_cli.serving.requests import AnswerRequest
from lmsupply_cli.serving.running import RunningServer
from lmsupply_cli.serving.server_client import ServerClient

TOKEN = "0123456789abcdef"
PATHS = (wire.ANSWER, wire.CANCEL, wire.FIND, wire.LOAD, wire.LOADED, wire.UNLOAD, wire.WARM)
CALL = ToolCall("c1", "add", '{"a": 1}')
EVENTS: tuple[GenerationEvent, ...] = (
    Notice("tools", "é\ud800"),
    PrefillProgress(3, 7),
    TokenLogprob("a", 5, -0.1, (TokenLogprob("a", 5, -0.1), TokenLogprob("\ufffd", 6, float("-inf")))),
    TextDelta("a\n✓"),
    TextWasReasoning(),
    ReasoningDelta("hm"),
    ToolCallDelta(0, "c1", "add", '{"a"'),
    CALL,
    Finished("stop", Usage(1, 2, 3, 4), Timings(0.1, 0.2, 0.3, 1 / 3), SpeculativeStats(4, 3, 2, 1.5), True, None, "x"),
    Finished("length", cut_by="context"),
)
REQUEST = AnswerRequest(
    messages=(
        ChatMessage.system("Be brief."),
        ChatMessage.user("hi"),
        ChatMessage.assistant("", reasoning="hm", partial=True, tool_calls=[CALL]),
        ChatMessage.tool("1", "c1"),
    ),
    options={
        key: value
        for key, value in GenerationOptions(logit_bias={5: 1.5}, stop=("a", "b"), seed=2**60).as_dict().items()
        if value is not None
    },
    answer_prefix="Once",
    tools=(ToolSpec("add", "Adds.", {"type": "object", "properties": {"a": {}}}, strict=False),),
    tool_choice={"type": "function", "function": {"name": "add"}},
    parallel_tool_calls=False,
    told=True,
    guidance=Guidance.regex("a+"),
    enable_thinking=False,
    reasoning_effort="low",
)


def post(models: FakeModels, path: str, token: str = TOKEN, **body: Any) -> Any:
    return client_of(models, token=TOKEN, api_keys=("k3y",)).post(path, json=body, headers={wire.TOKEN: token})


@pytest.mark.parametrize("path", PATHS)
def test_there_is_nothing_without_the_token(path: str) -> None:
    models = FakeModels(in_memory={"tiny"})
    client = client_of(models, token=TOKEN, api_keys=("k3y",))
    body = {"model": "tiny", "request": wire.request_row(REQUEST), "id": "1"}
    for headers in (
        {},
        {wire.TOKEN: "wrong"},
        {wire.TOKEN: ""},
        {"Authorization": f"Bearer {TOKEN}"},
        {"x-api-key": "k3y"},
    ):
        assert client.post(path, json=body, headers=headers).status_code == 404
    assert client.get(path, headers={wire.TOKEN: TOKEN}).status_code == 404
    assert client_of(models).post(path, json=body, headers={wire.TOKEN: ""}).status_code == 404
    assert not models.asked
    assert models.in_memory == {"tiny"}


def test_a_foreign_host_is_refused_with_the_token_too() -> None:
    headers = {wire.TOKEN: TOKEN, "Host": "evil.example"}
    assert client_of(token=TOKEN).post(wire.LOADED, json={}, headers=headers).status_code == 403


def test_models() -> None:
    models = FakeModels()
    assert post(models, wire.LOADED).json() == {"models": []}
    assert post(models, wire.LOAD, model="fast").json() == {}
    (row,) = post(models, wire.LOADED).json()["models"]
    assert (row["ref"], row["bytes"], row["context_tokens"], row["expires_s"]) == ("tiny", 5_000_000, 4096, 600.0)
    assert post(models, wire.FIND, model="fast").json() == {"ref": "tiny"}
    assert post(models, wire.WARM, model="tiny").json() == {"model": None}
    assert post(models, wire.UNLOAD, model="fast").json() == {"ref": "tiny", "unloaded": True}
    assert post(models, wire.UNLOAD, model="fast").json() == {"ref": "tiny", "unloaded": False}
    for path in (wire.FIND, wire.LOAD, wire.UNLOAD, wire.WARM):
        error = post(models, path, model="gpt-4").json()["error"]
        assert (error["code"], error["hint"]) == ("model_not_found", "models: tiny")


def test_an_answer_is_its_events() -> None:
    models = FakeModels(script=lambda request: EVENTS)
    response = post(models, wire.ANSWER, id="1", model="fast", request=wire.request_row(REQUEST))
    first, *rows = [json.loads(line) for line in response.text.splitlines()]
    assert first == {"prompt_tokens": 7}
    assert tuple(wire.event_of(row) for row in rows) == EVENTS
    ((model, request, keep_alive_s),) = models.asked
    assert (model, keep_alive_s) == ("fast", None)
    assert request == REQUEST
    assert GenerationOptions(**request.options) == GenerationOptions(**REQUEST.options)


def test_a_raw_request_with_options_that_are_none() -> None:
    models = FakeModels()
    options = {"repetition_penalty": None, "seed": None, "stop": (), "logit_bias": ()}
    asked = AnswerRequest(text="<s>hi", options=options)
    assert post(models, wire.ANSWER, id="1", model="tiny", request=wire.request_row(asked)).status_code == 200
    assert models.asked[0][1] == asked


def test_errors_are_the_library_s() -> None:
    request = wire.request_row(REQUEST)
    overflow = ContextOverflow("too long", hint="shorten it")
    response = post(FakeModels(refuses=overflow), wire.ANSWER, id="1", model="tiny", request=request)
    error = wire.error_of(response.json()["error"])
    assert response.status_code == 400
    assert (type(error), error.message, error.hint) == (ContextOverflow, "too long", "shorten it")
    died = FakeModels(script=lambda request: (TextDelta("a"), WorkerDied("it crashed")))
    *_, last = post(died, wire.ANSWER, id="1", model="tiny", request=request).text.splitlines()
    assert type(wire.error_of(json.loads(last)["error"])) is WorkerDied


@pytest.mark.parametrize("row", [None, {}, [], {"messages": 1}, wire.request_row(REQUEST) | {"more": 1}])
def test_what_is_no_request(row: Any) -> None:
    response = post(FakeModels(), wire.ANSWER, id="1", model="tiny", request=row)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "usage"


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_object(data: bytes) -> None:
    response = client_of(token=TOKEN).post(wire.FIND, content=data, headers={wire.TOKEN: TOKEN})
    assert response.status_code == 400


def test_cancel_of_nothing_is_nothing() -> None:
    assert post(FakeModels(script=says("a")), wire.CANCEL, id="7").json() == {}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_survive(event: GenerationEvent) -> None:
    assert wire.event_of(json.loads(json.dumps(wire.event_row(event)))) == event


def test_a_request_survives() -> None:
    assert wire.request_of(json.loads(json.dumps(wire.request_row(REQUEST)))) == REQUEST
    assert wire.request_of(wire.request_row(replace(REQUEST, guidance=None))).guidance is None


@pytest.mark.parametrize(
    "kind",
    [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, LmsupplyError) and value.__module__ == errors.__name__
    ],
)
def test_errors_survive(kind: type[LmsupplyError]) -> None:
    found = wire.error_of(json.loads(json.dumps(wire.error_row(kind("what", hint="how")))))
    assert (type(found), found.message, found.hint, found.exit_code) == (kind, "what", "how", kind.exit_code)


def test_an_error_of_a_parameter_and_one_that_is_unknown() -> None:
    found = wire.error_of(wire.error_row(UsageError("what").of("seed")))
    assert isinstance(found, UsageError)
    assert found.param == "seed"
    assert type(wire.error_of({"code": "new", "message": "what"})) is LmsupplyError
    assert type(wire.error_of(None)) is LmsupplyError


def test_a_server_that_does_not_answer() -> None:
    """Nobody accepts what waits at this socket; and then there is none."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        client = ServerClient(
            RunningServer(f"http://127.0.0.1:{bound.getsockname()[1]}", 1, 1.0, "0", False, "/", TOKEN)
        )
        with pytest.raises(ServerGone, match="does not answer"):
            client.call(wire.LOADED, 0.01)
    with pytest.raises(ServerGone, match="does not answer") as caught:
        client.call(wire.LOADED)
    assert (caught.value.code, caught.value.exit_code) == ("server_gone", 1)
