"""The ollama Python client on the real application, which answers with the guide."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from lmsupply_cli.server.app import make_app
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.serving.worker_pool import WorkerPool

httpx = pytest.importorskip("httpx")
ollama = pytest.importorskip("ollama")

GREEDY = {"temperature": 0, "num_predict": 12}
ASKED = [{"role": "user", "content": "How do I list my models?"}]
COLORS = {"type": "object", "properties": {"color": {"enum": ["red", "green"]}}, "required": ["color"]}


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[Callable[[Any], Awaitable[Any]]], Any]]:
    """Runs what is given a client, with one server for all tests."""
    with asyncio.Runner() as runner:
        pool = WorkerPool()
        transport = httpx.ASGITransport(make_app(ServerState(pool)))
        client = ollama.AsyncClient(host="http://localhost", transport=transport)

        async def used(work: Callable[[Any], Awaitable[Any]]) -> Any:
            return await work(client)

        runner.run(pool.start())
        yield lambda work: runner.run(used(work))
        runner.run(pool.close())


def test_the_models(run: Any) -> None:
    found = run(lambda client: client.list())
    assert "guide:latest" in [model.model for model in found.models]
    shown = run(lambda client: client.show("guide"))
    assert "completion" in shown.capabilities
    assert shown.modelinfo[f"{shown.modelinfo['general.architecture']}.context_length"] > 0


def test_a_chat(run: Any) -> None:
    found = run(lambda client: client.chat("guide", ASKED, options=GREEDY))
    assert "lmsupply models" in found.message.content
    assert found.done
    assert 0 < found.eval_duration <= found.total_duration
    assert found.prompt_eval_count > 0
    assert found.done_reason in ("stop", "length")
    models = run(lambda client: client.ps()).models
    assert [(model.name, model.context_length > 0, model.size > 0) for model in models] == [
        ("guide:latest", True, True)
    ]


def test_a_stream_says_the_same(run: Any) -> None:
    async def streamed(client: Any) -> list[Any]:
        return [piece async for piece in await client.chat("guide", ASKED, stream=True, options=GREEDY)]

    pieces = run(streamed)
    whole = run(lambda client: client.chat("guide", ASKED, options=GREEDY))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == whole.eval_count


def test_generate_continues(run: Any) -> None:
    first = run(lambda client: client.generate("guide", "hello", options=GREEDY))
    again = run(lambda client: client.generate("guide", "thanks", context=list(first.context), options=GREEDY))
    assert again.prompt_eval_count > first.prompt_eval_count
    assert again.response


def test_a_schema_is_followed(run: Any) -> None:
    found = run(lambda client: client.chat("guide", ASKED, format=COLORS, options={"num_predict": 40}))
    assert json.loads(found.message.content)["color"] in ("red", "green")


def test_a_function_as_a_tool(run: Any) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: the first
            b: the second
        """
        return a + b

    found = run(lambda client: client.chat("guide", ASKED, tools=[add], options=GREEDY))
    assert found.message.content or found.message.tool_calls


def test_logprobs(run: Any) -> None:
    found = run(
        lambda client: client.generate("guide", "hello", logprobs=True, top_logprobs=2, options={"num_predict": 3})
    )
    assert 1 <= len(found.logprobs) <= 3
    assert all(row.logprob <= 0 and len(row.top_logprobs) == 2 for row in found.logprobs)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": "no-such-model"}, 404, "no-such-model"),
        ({"options": {"mirostat": 2}}, 400, "options.mirostat"),
        ({"options": {"num_ctx": 10_000_000}}, 400, "options.num_ctx"),
        ({"think": True}, 400, "think"),
        ({"messages": [{"role": "user", "content": "x " * 100_000}]}, 400, "messages"),
    ],
)
def test_errors(run: Any, asked: dict[str, Any], status: int, words: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        run(lambda client: client.chat(**({"model": "guide", "messages": ASKED} | asked)))
    assert caught.value.status_code == status
    assert words in caught.value.error


def test_unload_and_load(run: Any) -> None:
    assert run(lambda client: client.generate("guide", keep_alive=0)).done_reason == "unload"
    assert run(lambda client: client.ps()).models == []
    assert run(lambda client: client.generate("guide", keep_alive=-1)).done_reason == "load"
    (row,) = run(lambda client: client.ps()).models
    assert row.expires_at.year > 2100


def test_what_is_not_here(run: Any) -> None:
    with pytest.raises(ollama.ResponseError, match="embeddings are not supported") as caught:
        run(lambda client: client.embed("guide", "hi"))
    assert caught.value.status_code == 501
    with pytest.raises(ollama.ResponseError, match="lmsupply pull"):
        run(lambda client: client.pull("guide"))
