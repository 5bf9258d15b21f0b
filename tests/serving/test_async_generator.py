"""A model for programs with an event loop, on its real process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

import psutil
import pytest

from lmsupply_cli import (
    ChatMessage,
    Completion,
    ContextOverflow,
    EngineError,
    Finished,
    Guidance,
    LoadOptions,
    ModelNotFound,
    QueueFull,
    TextDelta,
    ToolCall,
    UsageError,
    WorkerDied,
    load,
    load_async,
)
from lmsupply_cli.serving.async_generator import AsyncTextGenerator

LONG = {"max_tokens": 800, "min_length": 700}  # of a thousand: it does not end by itself


@asynccontextmanager
async def guide(**more: Any) -> AsyncIterator[AsyncTextGenerator]:
    async with asyncio.timeout(120), await load_async("guide", **more) as model:
        yield model


async def quiet(model: AsyncTextGenerator) -> bool:
    """Nothing runs or waits any more, after a while."""
    while model._process.running or model._process.waiting:
        await asyncio.sleep(0.01)
    return True


def paint(color: Literal["red"]) -> str:
    """Paint it."""
    return color


def test_the_same_answers_as_without_a_loop() -> None:
    chat = [{"role": "user", "content": "How do I list my models?"}]

    async def main() -> list[Any]:
        async with guide(context=512) as model:
            whole = await model.agenerate("thanks", temperature=0)
            raw = await model.agenerate("hello", raw=True, temperature=0, max_tokens=5)
            messages = await model.achat(chat, temperature=0)
            text = "".join([piece async for piece in model.astream_text("thanks", temperature=0)])
            again = "".join([piece async for piece in model.astream_text(chat, temperature=0, max_tokens=4)])
            events = [event async for event in model.astream(chat, temperature=0)]
            assert (model.info.ref, model.context_tokens, model.notices) == ("guide", 512, ())
            assert isinstance(events[-1], Finished)
            assert "".join(event.text for event in events if isinstance(event, TextDelta)) == messages.text
            return [whole.text, raw.text, messages.text, messages.usage.prompt_tokens, text, again, str(whole)]

    with load("guide", context=512) as model:
        messages = model.generate_chat(chat, temperature=0)
        whole = model.generate("thanks", temperature=0).text
        raw = model.generate("hello", raw=True, temperature=0, max_tokens=5).text
        cut = model.generate_chat(chat, temperature=0, max_tokens=4).text
    assert asyncio.run(main()) == [whole, raw, messages.text, messages.usage.prompt_tokens, whole, cut, whole]


def test_guidance_and_tools() -> None:
    async def main() -> None:
        async with guide(guidance=Guidance.regex("default"), options=None) as model:
            assert (await model.agenerate("x")).text == "default"
            answer = await model.agenerate("x", guidance=Guidance.regex("yes|no"))
            assert answer.text in ("yes", "no")
            assert answer.complete
        async with guide() as model:
            chat = [ChatMessage.user("paint it")]
            called = await model.achat(chat, tools=[paint], tool_choice="paint")
            assert called.finish_reason == "tool_calls"
            assert [call.name for call in called.tool_calls] == ["paint"]
            events = [
                e async for e in model.astream(chat, tools=[paint], tool_choice="required", parallel_tool_calls=False)
            ]
            assert sum(isinstance(event, ToolCall) for event in events) == 1
            told = await model.count_tokens(chat, tools=[paint])
            assert told > await model.count_tokens(chat) > await model.count_tokens("paint it", raw=True) > 1
            assert await model.count_tokens(chat) == await model.count_tokens("paint it")

    asyncio.run(main())


def test_several_at_once() -> None:
    async def main() -> None:
        async with guide(concurrency=2) as model:
            questions = ["thanks", "hello", "How do I list my models?"] * 3
            found = await asyncio.gather(*(model.agenerate(question, temperature=0) for question in questions))
            assert [answer.text[:3] for answer in found] == ["You", "Hel", "Run"] * 3
        async with guide(concurrency=1, queue_limit=0) as model:
            events = model.astream("hello", **LONG)
            await anext(events)
            with pytest.raises(QueueFull):
                await model.agenerate("hello")
            await events.aclose()

    asyncio.run(main())


def test_a_task_that_is_cancelled_ends_its_answer() -> None:
    async def main() -> None:
        async with guide() as model:
            task = asyncio.create_task(model.agenerate("hello", **LONG))
            while not model._process.running:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await quiet(model)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await model.achat([ChatMessage.user("hello")], **LONG)
            assert await quiet(model)
            assert (await model.agenerate("thanks", temperature=0)).text == "You are welcome!"

    asyncio.run(main())


def test_an_iterator_that_is_left_ends_its_answer() -> None:
    async def main() -> None:
        async with guide() as model:
            async with aclosing(model.astream("hello", **LONG)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        break
            assert await quiet(model)
            async for _ in model.astream_text("hello", **LONG):
                break
            assert await quiet(model)
            texts = model.astream_text("hello", **LONG)
            await anext(texts)
            await texts.aclose()
            assert await quiet(model)

    asyncio.run(main())


def test_what_cannot_be() -> None:
    async def main() -> None:
        async with guide() as model:
            with pytest.raises(UsageError, match="prompt must be a string"):
                await model.agenerate(["hello"])  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="guidance must be a Guidance"):
                await model.agenerate("hello", guidance="yes|no")  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="unknown generation option 'temprature'"):
                await model.agenerate("hello", temprature=1)  # type: ignore[call-arg]
            with pytest.raises(UsageError, match="raw takes a text"):
                await anext(model.astream([{"role": "user", "content": "x"}], raw=True))
            with pytest.raises(UsageError, match="raw takes a text"):
                await anext(model.astream("x", raw=True, tools=[paint]))
            with pytest.raises(UsageError, match="there is no tool 'sub'"):
                await model.achat([ChatMessage.user("x")], tools=[paint], tool_choice="sub")
            with pytest.raises(UsageError, match="no message"):
                await model.achat([])
            with pytest.raises(ContextOverflow):
                await model.agenerate("hello " * 2000)
            assert await quiet(model)
        with pytest.raises(EngineError, match="the model is closed"):
            await model.agenerate("hello")
        await model.aclose()
        with pytest.raises(ModelNotFound):
            await load_async("no such model")
        with pytest.raises(UsageError, match="combined: threads"):
            await load_async("guide", LoadOptions(), threads=1)
        with pytest.raises(UsageError, match="the second argument"):
            await load_async("guide", 512)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="unknown load option 'contxt'"):
            await load_async("guide", contxt=512)  # type: ignore[call-arg]
        with pytest.raises(UsageError, match="concurrency"):
            await load_async("guide", concurrency=0)

    asyncio.run(main())


def test_a_process_that_is_killed_and_one_that_is_given_back() -> None:
    async def main() -> int:
        async with guide() as model:
            pid = model._process.pid
            task = asyncio.create_task(model.agenerate("hello", **LONG))
            while not model._process.running:
                await asyncio.sleep(0.005)
            os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
            with pytest.raises(WorkerDied):
                await task
        async with guide() as model:
            pid = model._process.pid
            running = asyncio.create_task(model.agenerate("thanks", temperature=0))
            while not model._process.running and not running.done():
                await asyncio.sleep(0.001)
            await model.aclose()
            assert isinstance(await running, Completion), "it may finish"
        return pid

    assert not psutil.pid_exists(asyncio.run(main()))


def test_a_model_that_is_forgotten() -> None:
    async def main() -> None:
        held = [await load_async("guide")]
        process = held[0]._process
        with pytest.warns(ResourceWarning, match="guide was not closed"):
            held.clear()
        await process.wait_ended()
        assert not process.memory_bytes()

    asyncio.run(main())


def test_another_loop() -> None:
    async def make() -> AsyncTextGenerator:
        return await load_async("guide")

    with asyncio.Runner() as one:
        model = one.run(make())
        with asyncio.Runner() as other, pytest.raises(UsageError, match="another event loop"):
            other.run(model.agenerate("hello"))
        one.run(model.aclose())
