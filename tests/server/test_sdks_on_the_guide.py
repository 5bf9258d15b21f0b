"""The SDKs of OpenAI and Anthropic on the real application, which answers responses and messages with the guide."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from support.api import URL, fixture, http_client_of

from lmsupply_cli.serving.worker_pool import WorkerPool

openai, anthropic = pytest.importorskip("openai"), pytest.importorskip("anthropic")

QUESTION = "How do I list my models?"
ASKED = [{"role": "user", "content": QUESTION}]
GREEDY = {"extra_body": {"temperature": 0}}  # the anthropic SDK has no such parameter anymore
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "name": "weather", "description": "", "parameters": SCHEMA, "strict": True}
CLIENT_WEATHER = {"name": "weather", "input_schema": SCHEMA}


class Color(BaseModel):
    """What an answer must be."""

    color: Literal["red", "green"]


Run = Callable[[Callable[[Any, Any], Awaitable[Any]]], Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs what is given a client of each SDK, with one server for all tests."""
    with asyncio.Runner() as runner:
        pool = WorkerPool()
        http = http_client_of(pool)
        options: dict[str, Any] = {"api_key": "none", "http_client": http, "max_retries": 0}
        clients = openai.AsyncOpenAI(base_url=f"{URL}/v1", **options), anthropic.AsyncAnthropic(base_url=URL, **options)

        async def used(work: Callable[[Any, Any], Awaitable[Any]]) -> Any:
            return await work(*clients)

        runner.run(pool.start())
        yield lambda work: runner.run(used(work))
        runner.run(http.aclose())
        runner.run(pool.close())


def test_both_say_the_same_whole_and_streamed(run: Run) -> None:
    async def ask(openai: Any, anthropic: Any) -> tuple[str, ...]:
        whole = await openai.responses.create(model="guide", input=QUESTION, temperature=0)
        async with openai.responses.stream(model="guide", input=QUESTION, temperature=0) as stream:
            streamed = await stream.get_final_response()
        message = await anthropic.messages.create(model="guide", max_tokens=200, messages=ASKED, **GREEDY)
        async with anthropic.messages.stream(model="guide", max_tokens=200, messages=ASKED, **GREEDY) as events:
            final = await events.get_final_message()
        return whole.output_text, streamed.output_text, message.content[0].text, final.content[0].text

    texts = run(ask)
    assert "lmsupply models" in texts[0]
    assert len(set(texts)) == 1


def test_usage_is_true(run: Run) -> None:
    async def ask(openai: Any, anthropic: Any) -> tuple[Any, ...]:
        counted = await openai.responses.input_tokens.count(model="guide", input=QUESTION)
        also = await anthropic.messages.count_tokens(model="guide", messages=ASKED)
        await openai.responses.create(model="guide", input=QUESTION, max_output_tokens=16)
        second = await openai.responses.create(model="guide", input=QUESTION, max_output_tokens=1)
        third = await anthropic.messages.create(model="guide", max_tokens=1, messages=ASKED)
        return counted.input_tokens, also.input_tokens, second, third

    counted, also, response, message = run(ask)
    assert counted == also == response.usage.input_tokens
    assert 0 < response.usage.input_tokens_details.cached_tokens < counted
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens == counted
    assert message.usage.cache_read_input_tokens > 0
    assert (response.usage.output_tokens, message.usage.output_tokens) == (1, 1)
    assert (response.status, message.stop_reason) == ("incomplete", "max_tokens")


def test_schemas_hold(run: Run) -> None:
    async def ask(openai: Any, anthropic: Any) -> tuple[Any, ...]:
        parsed = await openai.responses.parse(model="guide", input="Pick one.", text_format=Color)
        options = {"model": "guide", "max_tokens": 50, "messages": ASKED}
        return parsed.output_parsed, (await anthropic.messages.parse(output_format=Color, **options)).parsed_output

    assert all(isinstance(color, Color) for color in run(ask))


def test_calls_are_made_and_their_results_are_read(run: Run) -> None:
    async def ask(openai: Any, anthropic: Any) -> tuple[Any, ...]:
        first = await openai.responses.create(
            model="guide", input=QUESTION, tools=[WEATHER], tool_choice={"type": "function", "name": "weather"}
        )
        call = first.output[-1]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
        history = [*ASKED, *first.output, result]
        second = await openai.responses.create(model="guide", input=history, tools=[WEATHER], tool_choice="none")

        options = {"model": "guide", "max_tokens": 300, "tools": [CLIENT_WEATHER]}
        choice = {"type": "tool", "name": "weather"}
        async with anthropic.messages.stream(messages=ASKED, tool_choice=choice, **options) as stream:
            third = await stream.get_final_message()
        block = {"type": "tool_result", "tool_use_id": third.content[-1].id, "content": "rain"}
        more = [*ASKED, {"role": "assistant", "content": third.content}, {"role": "user", "content": [block]}]
        fourth = await anthropic.messages.create(messages=more, tool_choice={"type": "none"}, **options)
        return call, second, third, fourth

    call, second, third, fourth = run(ask)
    assert (call.type, call.name) == ("function_call", "weather")
    assert call.arguments in ('{"city": "Paris"}', '{"city": "Rome"}')
    assert [item.type for item in second.output] == ["message"]
    assert (third.stop_reason, third.content[-1].name) == ("tool_use", "weather")
    assert third.content[-1].input["city"] in ("Paris", "Rome")
    assert [block.type for block in fourth.content] == ["text"]


def test_an_answer_that_has_begun_and_one_that_is_stopped(run: Run) -> None:
    async def ask(openai: Any, anthropic: Any) -> tuple[Any, ...]:
        options = {"model": "guide", "max_tokens": 200} | GREEDY
        whole = await anthropic.messages.create(messages=ASKED, **options)
        words = whole.content[0].text.split(" ")
        begun = [*ASKED, {"role": "assistant", "content": " ".join(words[:3])}]
        rest = await anthropic.messages.create(messages=begun, **options)
        stopped = await anthropic.messages.create(messages=ASKED, stop_sequences=[words[3]], **options)
        return whole.content[0].text, words, rest, stopped

    text, words, rest, stopped = run(ask)
    assert " ".join(words[:3]) + rest.content[0].text == text
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", words[3])
    assert text.startswith(stopped.content[0].text)


def test_a_prompt_beyond_the_context(run: Run) -> None:
    async def ask(openai: Any, anthropic: Any) -> Any:
        return await openai.responses.create(model="guide", input="word " * 5000)

    with pytest.raises(openai.BadRequestError) as caught:
        run(ask)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")

    async def message(openai: Any, anthropic: Any) -> Any:
        long = [{"role": "user", "content": "word " * 5000}]
        return await anthropic.messages.create(model="guide", max_tokens=5, messages=long)

    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        run(message)


@pytest.mark.parametrize("name", ["claude_code_first", "claude_code_title", "claude_code_quota", "codex_probe"])
def test_what_agents_send_is_answered(run: Run, name: str) -> None:
    body = fixture(name) | {"model": "guide", "stream": False}
    limit = "max_output_tokens" if name == "codex_probe" else "max_tokens"
    body[limit] = min(body[limit], 30)

    async def ask(openai: Any, anthropic: Any) -> Any:
        client, path = (openai, "/responses") if name == "codex_probe" else (anthropic, "/v1/messages")
        return await client.post(path, body=body, cast_to=object)

    found: Any = run(ask)
    assert found["model"] == "guide"
    assert found.get("content") or found.get("output")
