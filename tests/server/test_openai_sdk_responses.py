"""The openai SDK on /v1/responses: its models, its streaming helper, and its parsing of structured outputs."""

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

openai = pytest.importorskip("openai")


class Title(BaseModel):
    """What an answer must be."""

    title: str
    words: int


EVENTS: tuple[GenerationEvent, ...] = (
    ReasoningDelta("Add."),
    TextDelta("I "),
    TextDelta("add."),
    ToolCallDelta(0, "call_1", "Title", ""),
    ToolCallDelta(0, "call_1", "Title", '{"title": "x", '),
    ToolCallDelta(0, "call_1", "Title", '"words": 1}'),
    ToolCall("call_1", "Title", '{"title": "x", "words": 1}'),
    Finished("tool_calls", Usage(10, 4, 6)),
)


def use(models: FakeModels, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """What `work` returns, given a client."""

    async def run() -> Any:
        async with http_client_of(models) as http:
            client = openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none", http_client=http, max_retries=0)
            return await work(client)

    return asyncio.run(run())


def test_a_response() -> None:
    async def work(client: Any) -> Any:
        return await client.responses.create(model="tiny", input="hi")

    found = use(FakeModels(), work)
    assert found.output_text == "Hello"
    assert (found.usage.input_tokens_details.cached_tokens, found.usage.total_tokens) == (3, 9)
    assert (
        type(found).model_validate(found.model_dump(warnings=False)).id == found.id
    )  # nothing that is required is missing


def test_the_streaming_helper() -> None:
    async def work(client: Any) -> Any:
        events = []
        tools = [openai.pydantic_function_tool(Title, name="Title")["function"] | {"type": "function"}]
        async with client.responses.stream(model="tiny", input="hi", tools=tools) as stream:
            async for event in stream:
                events.append(event)
            return events, await stream.get_final_response()

    events, final = use(FakeModels(script=lambda request: EVENTS), work)
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert [event.snapshot for event in deltas] == ["I ", "I add."]
    arguments = [event.snapshot for event in events if event.type == "response.function_call_arguments.delta"]
    assert arguments[-1] == '{"title": "x", "words": 1}'
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert final.output[0].content[0].text == "Add."
    assert final.output_text == "I add."


def test_structured_outputs() -> None:
    models = FakeModels(script=says('{"title": "x",', ' "words": 1}'))

    async def parsed(client: Any) -> Any:
        return await client.responses.parse(model="tiny", input="hi", text_format=Title)

    assert use(models, parsed).output_parsed == Title(title="x", words=1)
    guidance = models.asked[0][1].guidance
    assert guidance is not None
    assert '"words"' in guidance.text

    async def streamed(client: Any) -> Any:
        async with client.responses.stream(model="tiny", input="hi", text_format=Title) as stream:
            return await stream.get_final_response()

    assert use(models, streamed).output_parsed == Title(title="x", words=1)


def test_a_conversation_goes_on_with_what_came() -> None:
    models = FakeModels(script=lambda request: EVENTS)

    async def work(client: Any) -> Any:
        first = await client.responses.create(model="tiny", input="hi", include=["reasoning.encrypted_content"])
        result = {"type": "function_call_output", "call_id": "call_1", "output": "done"}
        history = [{"role": "user", "content": "hi"}, *first.output, result]
        return await client.responses.create(model="tiny", input=history)

    use(models, work)
    found = models.asked[1][1].messages
    assert [message.role for message in found] == ["user", "assistant", "tool"]
    assert (found[1].content, found[1].reasoning, found[1].tool_calls[0].id) == ("I add.", "Add.", "call_1")


def test_input_tokens() -> None:
    async def work(client: Any) -> Any:
        return await client.responses.input_tokens.count(model="tiny", input="hi")

    assert use(FakeModels(), work).input_tokens == 7


def test_errors() -> None:
    async def work(client: Any) -> Any:
        return await client.responses.create(model="tiny", input="hi", previous_response_id="resp_1")

    with pytest.raises(openai.BadRequestError) as caught:
        use(FakeModels(), work)
    assert caught.value.param == "previous_response_id"

    async def long(client: Any) -> Any:
        return await client.responses.create(model="tiny", input="hi")

    with pytest.raises(openai.BadRequestError) as caught:
        use(FakeModels(refuses=ContextOverflow("too long")), long)
    assert caught.value.code == "context_length_exceeded"


def test_a_stream_that_fails() -> None:
    async def work(client: Any) -> Any:
        async with client.responses.stream(model="tiny", input="hi") as stream:
            return [event async for event in stream][-1]

    last = use(FakeModels(script=lambda request: (TextDelta("a"), WorkerDied("gone"))), work)
    assert (last.type, last.response.error.code, last.response.status) == ("response.failed", "server_error", "failed")
