"""The pool with real processes: the guide, and a tiny model that was added to the store."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from lmsupply_cli import ChatMessage, Finished, LoadOptions, ModelStore, TextDelta, UsageError, WorkerDied
from lmsupply_cli.errors import ContextOverflow, ModelFilesError
from lmsupply_cli.serving.pool_options import WorkerPoolOptions
from lmsupply_cli.serving.requests import AnswerRequest
from lmsupply_cli.serving.worker_pool import WorkerPool

MODELS = Path(__file__).parent.parent / "models"
LONG = {"max_tokens": 900, "min_length": 800}  # of a thousand: it does not end by itself


@asynccontextmanager
async def pool(**options: Any) -> AsyncIterator[WorkerPool]:
    before = set(psutil.Process().children(recursive=True))
    async with asyncio.timeout(120), WorkerPool(WorkerPoolOptions(**options)) as made:
        yield made
    assert set(psutil.Process().children(recursive=True)) <= before, "nothing is left behind"


def asks(text: str, **options: Any) -> AnswerRequest:
    return AnswerRequest(messages=(ChatMessage.user(text),), options={"temperature": 0.0} | options)


async def said(models: WorkerPool, model: str, text: str, **options: Any) -> str:
    answer = await models.answer(model, asks(text, **options))
    return "".join([event.text async for event in answer if isinstance(event, TextDelta)])


def pids(models: WorkerPool) -> dict[str, int]:
    return {row.ref: row.pid for row in models.loaded()}


@pytest.fixture
def tiny() -> str:
    ModelStore().add(MODELS / "llama", "tiny")
    return "tiny"


def test_two_models_where_one_has_room(tiny: str) -> None:
    async def main() -> None:
        async with pool(max_models=1, load=LoadOptions(context=256)) as models:
            answers = await asyncio.gather(
                said(models, "guide", "thanks"),
                said(models, tiny, "hello", max_tokens=3),
                said(models, "Guide", "thanks"),
            )
            assert answers[0] == answers[2] == "You are welcome!"
            assert models.stats.evictions >= 1
            (row,) = models.loaded()
            assert row.bytes > 10**7
            assert row.context_tokens == 256
            assert psutil.Process(row.pid).memory_info().rss == pytest.approx(row.bytes, rel=0.2)
            await said(models, "guide", "thanks")
            guide = pids(models)["guide"]
            await said(models, tiny, "hello", max_tokens=3)
            assert list(pids(models)) == [tiny]
            assert not psutil.pid_exists(guide), "its memory is given back"
            assert [(m.ref, m.loaded) for m in models.installed()] == [("guide", False), (tiny, True)]

    asyncio.run(main())


def test_one_that_is_killed_while_it_answers(tiny: str) -> None:
    async def main() -> None:
        async with pool(pinned=("guide",)) as models:
            await said(models, tiny, "hello", max_tokens=3)
            running = [await models.answer("guide", asks("hello", **LONG)) for _ in range(2)]
            other = asyncio.create_task(said(models, tiny, "hello", max_tokens=30))
            pid = pids(models)["guide"]
            os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
            for answer in running:
                with pytest.raises(WorkerDied):
                    [event async for event in answer]
            assert await other, "the other model does not notice"
            assert await said(models, "guide", "thanks") == "You are welcome!"
            assert pids(models)["guide"] != pid
            assert models.stats.crashes == 1

    asyncio.run(main())


def test_a_process_that_is_killed_while_nobody_asks() -> None:
    async def main() -> None:
        async with pool() as models:
            await models.load("guide")
            os.kill(pids(models)["guide"], signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
            assert await said(models, "guide", "thanks") == "You are welcome!", "at once, before the pool knows"

    asyncio.run(main())


def test_unloading_waits_for_answers_and_gives_the_memory_back() -> None:
    async def main() -> None:
        async with pool() as models:
            answer = await models.answer("guide", asks("How do I list my models?"))
            pid = pids(models)["guide"]
            unloading = asyncio.create_task(models.unload("guide"))
            events = [event async for event in answer]
            assert isinstance(events[-1], Finished)
            assert events[-1].finish_reason == "stop"
            assert await unloading
            assert not psutil.pid_exists(pid)
            assert not await models.unload("guide")
            await said(models, "guide", "thanks")
            await (await models.answer("guide", asks("thanks"), keep_alive_s=0)).__aiter__().aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_an_answer_that_is_given_up_ends() -> None:
    async def main() -> None:
        async with pool() as models:
            answer = await models.answer("guide", asks("hello", **LONG))
            async for event in answer:
                if isinstance(event, TextDelta):
                    break
            answer.cancel()
            assert await said(models, "guide", "thanks") == "You are welcome!"
            while models.loaded()[0].running:
                await asyncio.sleep(0.01)
            assert models.stats.models[0].answers == {"cancelled": 1, "stop": 1}

    asyncio.run(main())


def test_the_end_cancels_what_does_not_end() -> None:
    async def main() -> None:
        async with pool(pinned=("guide",)) as models:
            answer = await models.answer("guide", asks("hello", **LONG))
            await models.close(grace_s=0.05)
            events = [event async for event in answer]
            assert isinstance(events[-1], Finished)
            assert events[-1].finish_reason == "cancelled"

    asyncio.run(main())


def test_errors_of_requests_and_of_models(tmp_path: Path, tiny: str) -> None:
    async def main() -> None:
        async with pool() as models:
            with pytest.raises(ContextOverflow):
                await models.answer("guide", asks("hello " * 2000))
            with pytest.raises(UsageError, match="temprature"):
                await models.answer("guide", asks("hello", temprature=1))
            assert await models.count_tokens("guide", asks("hello")) > 3
            broken = tmp_path / "broken"
            broken.mkdir()
            for file in (MODELS / "llama").iterdir():
                (broken / file.name).write_bytes(file.read_bytes())
            ModelStore().add(broken, "broken")
            (broken / "model.onnx").write_bytes(b"no graph")
            with pytest.raises(ModelFilesError):
                await models.answer("broken", asks("hello"))
            assert await said(models, "guide", "thanks") == "You are welcome!"

    asyncio.run(main())
