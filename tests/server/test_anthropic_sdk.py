"""The anthropic SDK on /v1/messages: its models, its streaming helper, and its parsing of structured outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel
from support.api import URL, http_client_of
from support.fake_models import FakeModels, says

from lmsupply_cli.errors import ContextOverflow, WorkerDied
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

anthropic = pytest.importorskip("anthropic")

HI = [{"role": "user", "content": "hi"}]
EVENTS: tuple[GenerationEvent, ...] = (
    ReasoningDelta("Add."),
    TextDelta("I "),
    TextDelta("add."),
    ToolCallDelta(0, "call_1", "add", ""),
    ToolCallDelta(0, "call_1", "add", '{"a":'),
    ToolCallDelta(0, "call_1", "add", " 1}"),
    ToolCall("call_1", "add", '{"a": 1}'),
    Finished("tool_calls", Usage(10, 4, 6)),
)
ADD = {"name": "add", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}


class Title(BaseModel):
    """What an answer must be."""

    title: str


def use(models: FakeModels, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """What `work` returns, given a client."""

    async def run() -> Any:
        async with http_client_of(models) as http:
            client = anthropic.AsyncAnthropic(base_url=URL, api_key="none", http_client=http, max_retries=0)
            return await work(client)

    return asyncio.run(run())


def test_a_message() -> None:
    async def work(client: Any) -> Any:
        return await client.messages.create(model="tiny", max_tokens=20, messages=HI)

    found = use(FakeModels(), work)
    assert (found.content[0].text, found.stop_reason) == ("Hello", "end_turn")
    assert (found.usage.input_tokens, found.usage.cache_read_input_tokens) == (4, 3)
    assert (
        type(found).model_validate(found.model_dump(warnings=False)).id == found.id
    )  # nothing that is required is missing


def test_the_streaming_helper() -> None:
    models = FakeModels(script=lambda request: EVENTS)

    async def work(client: Any) -> Any:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        options = {"model": "tiny", "max_tokens": 2000, "tools": [ADD], "thinking": thinking}
        async with client.messages.stream(messages=HI, **options) as stream:
            texts = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
        answer = {"role": "assistant", "content": final.content}
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "1"}]}
        await client.messages.create(messages=[*HI, answer, result], **options)
        return texts, final

    texts, final = use(models, work)
    assert texts == ["I ", "add."]
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert (final.content[0].thinking, final.content[0].signature) == ("Add.", "lmsupply")
    assert (final.content[2].input, final.stop_reason) == ({"a": 1}, "tool_use")
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (6, 4, 6)
    found = models.asked[1][1].messages
    assert [message.role for message in found] == ["user", "assistant", "tool"]
    assert (found[1].reasoning, found[1].tool_calls[0].values) == ("Add.", {"a": 1})


def test_structured_outputs() -> None:
    models = FakeModels(script=says('{"title":', ' "x"}'))

    async def work(client: Any) -> Any:
        return await client.messages.parse(model="tiny", max_tokens=20, messages=HI, output_format=Title)

    assert use(models, work).parsed_output == Title(title="x")
    assert models.asked[0][1].guidance is not None


def test_tokens_are_counted() -> None:
    async def work(client: Any) -> Any:
        return await client.messages.count_tokens(model="tiny", messages=HI, system="Be brief.", tools=[ADD])

    assert use(FakeModels(), work).input_tokens == 7


def test_the_beta_client() -> None:
    async def work(client: Any) -> Any:
        options = {"model": "tiny", "max_tokens": 20, "messages": HI, "betas": ["context-management-2025-06-27"]}
        edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
        return await client.beta.messages.create(context_management=edits, **options)

    assert use(FakeModels(), work).content[0].text == "Hello"


def test_errors() -> None:
    async def work(client: Any) -> Any:
        return await client.messages.create(model="tiny", max_tokens=20, messages=HI)

    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        use(FakeModels(refuses=ContextOverflow("the prompt has 5,000 tokens")), work)

    async def absent(client: Any) -> Any:
        return await client.messages.create(model="claude-sonnet-4-6", max_tokens=20, messages=HI)

    with pytest.raises(anthropic.NotFoundError, match="ANTHROPIC_MODEL"):
        use(FakeModels(), absent)


def test_a_stream_that_fails() -> None:
    async def work(client: Any) -> Any:
        async with client.messages.stream(model="tiny", max_tokens=20, messages=HI) as stream:
            return await stream.get_final_message()

    with pytest.raises(anthropic.APIStatusError, match="gone"):
        use(FakeModels(script=lambda request: (TextDelta("a"), WorkerDied("gone"))), work)
