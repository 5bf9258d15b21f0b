"""Clients that leave: whatever was going on for them ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from support.fake_models import FakeAnswer, FakeModels

from lmsupply_cli.events import Finished, TextDelta
from lmsupply_cli.server.app import make_app
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import streamed
from lmsupply_cli.serving.requests import AnswerRequest

HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
PATHS = {
    "/v1/chat/completions": HELLO,
    "/v1/completions": {"model": "tiny", "prompt": "hi"},
    "/v1/responses": {"model": "tiny", "input": "hi"},
    "/v1/messages": HELLO | {"max_tokens": 9},
    "/api/chat": HELLO,
    "/api/generate": {"model": "tiny", "prompt": "hi"},
}
SLOW = FakeModels(script=lambda request: (TextDelta("first"), 3600.0, Finished("stop"))).script


async def call(models: FakeModels, path: str, body: dict[str, Any], leave: Callable[[], Awaitable[None]]) -> list[Any]:
    """What is sent to a client that leaves when `leave` returns."""
    sent: list[Any] = []
    pieces = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Any:
        if pieces:
            return pieces.pop()
        await leave()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "http_version": "1.1",
        "headers": [(b"host", b"localhost")], "scheme": "http", "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        "root_path": "", "asgi": {"version": "3.0", "spec_version": "2.3"},
    }  # fmt: skip
    app = make_app(ServerState(models))
    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_an_answer_is_cancelled(path: str, stream: bool) -> None:
    models = FakeModels(script=SLOW)

    async def leave() -> None:
        while not models.answers:
            await asyncio.sleep(0)

    asyncio.run(call(models, path, PATHS[path] | {"stream": stream}, leave))
    assert [answer.cancelled for answer in models.answers] == [True]


@pytest.mark.parametrize("path", PATHS)
def test_nobody_waits_for_a_model_that_loads(path: str) -> None:
    given_up: list[bool] = []

    class Loading(FakeModels):
        async def answer(self, model: str, request: AnswerRequest, *, keep_alive_s: float | None = None) -> FakeAnswer:
            given_up.append(False)
            try:
                await asyncio.Event().wait()
            finally:
                given_up[0] = True
            raise AssertionError

    async def leave() -> None:
        while not given_up:
            await asyncio.sleep(0)

    asyncio.run(call(Loading(), path, PATHS[path], leave))
    assert given_up == [True]


def test_all_choices_are_cancelled() -> None:
    models = FakeModels(script=SLOW)

    async def leave() -> None:
        while len(models.answers) < 3:
            await asyncio.sleep(0)

    asyncio.run(call(models, "/v1/chat/completions", HELLO | {"n": 3, "stream": True}, leave))
    assert [answer.cancelled for answer in models.answers] == [True] * 3


def test_a_stream_that_was_never_begun_is_cancelled() -> None:
    """The client is gone before the first frame is asked for."""
    cancelled: list[bool] = []

    async def frames() -> AsyncIterator[bytes]:
        yield b"first"

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.Event().wait()  # the connection takes nothing

    response = streamed(
        frames(), cancel=lambda: cancelled.append(True), failed=lambda error: b"", media_type="text/plain"
    )
    asyncio.run(response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send))
    assert cancelled == [True]
