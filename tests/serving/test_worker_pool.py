"""The pool of worker processes, with processes that are scripted and a clock that jumps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import generate_latest
from support.fake_processes import World, asks
from support.virtual_time import run

from lmsupply_cli.errors import (
    DoesNotFit,
    EngineError,
    LicenseNotAccepted,
    ModelFilesError,
    ModelNotFound,
    QueueFull,
    QueueTimeout,
    UsageError,
    WorkerDied,
)
from lmsupply_cli.events import Finished, TextDelta
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.server.metrics import Metrics
from lmsupply_cli.serving import worker_pool
from lmsupply_cli.serving.pool_options import WorkerPoolOptions
from lmsupply_cli.serving.worker_pool import WorkerPool
from lmsupply_cli.store.locate import LocatedModel

MB = 10**6


async def said(pool: WorkerPool, model: str, seconds: float = 1.0, **more: Any) -> str:
    """The whole answer, and why it ended."""
    answer = await pool.answer(model, asks(seconds), **more)
    text, reason = "", ""
    async for event in answer:
        text += event.text if isinstance(event, TextDelta) else ""
        reason = event.finish_reason if isinstance(event, Finished) else ""
    return f"{text} {reason}"


def loaded(pool: WorkerPool) -> list[str]:
    return [row.ref for row in pool.loaded()]


def within(world: World, act: Callable[[WorkerPool], Awaitable[None]], **options: Any) -> None:
    """Run `act` with a pool, and look whether anything is left behind."""

    async def main() -> None:
        async with world.pool(**options) as pool:
            await act(pool)
        assert not world.alive
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_model_is_loaded_once_for_all_who_ask() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        assert loaded(pool) == []
        asked = [asyncio.create_task(said(pool, "a")) for _ in range(5)]
        await asyncio.sleep(1)
        assert pool.stats.waiting == 5
        assert await asyncio.gather(*asked) == ["Hello stop"] * 5
        assert world.loads == {"a": 1}
        assert await said(pool, "a") == "Hello stop"
        stats = pool.stats.models[0]
        assert (stats.ref, stats.loads, stats.answers) == ("a", 1, {"stop": 6})
        assert (stats.prompt_tokens, stats.cached_tokens, stats.completion_tokens) == (30, 6, 12)
        assert pool.stats.waiting == 0
        assert await pool.count_tokens("a", asks()) == 5

    within(world, act)


def test_each_model_is_loaded_on_a_provider_of_its_own() -> None:
    world, asked = World({"a": MB, "b": MB}), list[str]()

    def provider(model: LocatedModel) -> str:
        asked.append(model.ref)
        return "cuda" if model.ref == "a" else "cpu"

    async def act(pool: WorkerPool) -> None:
        for name in ("a", "b", "a"):
            await said(pool, name)
        assert {one.ref: one.options.provider for one in world.alive} == {"a": "cuda", "b": "cpu"}
        assert asked == ["a", "b"]

    within(world, act, provider=provider, load=LoadOptions(provider="auto"))


def test_what_is_there_and_what_is_loaded() -> None:
    world = World({"a": MB, "b": MB})

    async def act(pool: WorkerPool) -> None:
        await pool.load("a")
        assert [(row.ref, row.loaded, row.context_length) for row in pool.installed()] == [
            ("a", True, 2048), ("b", False, 4096),
        ]  # fmt: skip
        await asyncio.sleep(100)
        (row,) = pool.loaded()
        assert (row.ref, row.bytes, row.pid, row.expires_s, row.pinned) == ("a", MB, 1001, 500.0, False)
        assert pool.find("a").loaded
        with pytest.raises(ModelNotFound):
            pool.find("c")
        with pytest.raises(ModelNotFound):
            await pool.answer("../a", asks())

    within(world, act)


def test_idle_models_are_unloaded_after_their_time() -> None:
    async def act(pool: WorkerPool) -> None:
        await said(pool, "a")
        await asyncio.sleep(599)
        assert loaded(pool) == ["a"]
        await said(pool, "a", seconds=1000)
        await asyncio.sleep(599)
        assert loaded(pool) == ["a"]
        await asyncio.sleep(2)
        assert loaded(pool) == []
        assert pool.stats.models[0].unloads == 1
        assert await said(pool, "a") == "Hello stop"

    within(World({"a": MB}), act)


def test_metrics_of_a_pool() -> None:
    world = World(dict.fromkeys("ab", 80 * MB))

    async def act(pool: WorkerPool) -> None:
        for name in "aba":
            await said(pool, name)
        world.process("a").kill()
        await asyncio.sleep(1)
        text = generate_latest(Metrics(pool).registry).decode()
        for line in (
            'lmsupply_model_loads_total{model="a"} 2.0',
            'lmsupply_model_evictions_total{model="b"} 1.0',
            'lmsupply_model_crashes_total{model="a"} 1.0',
            "lmsupply_models_loaded 0.0",
        ):
            assert line in text.splitlines()

    within(world, act, memory_limit=100 * MB)


def test_how_long_a_request_keeps_its_model() -> None:
    async def act(pool: WorkerPool) -> None:
        await said(pool, "a", keep_alive_s=0)
        await asyncio.sleep(1)
        assert loaded(pool) == []
        await said(pool, "a", keep_alive_s=math.inf)
        await said(pool, "a")
        await asyncio.sleep(10**6)
        assert loaded(pool) == ["a"], "until another request says otherwise"
        assert pool.loaded()[0].expires_s is None
        await pool.load("a", keep_alive_s=5)
        assert pool.loaded()[0].expires_s == 5
        await asyncio.sleep(6)
        assert loaded(pool) == []

    within(World({"a": MB}), act)


def test_for_ever_and_at_once_as_defaults() -> None:
    async def for_ever(pool: WorkerPool) -> None:
        await said(pool, "a")
        await asyncio.sleep(10**7)
        assert loaded(pool) == ["a"]

    async def at_once(pool: WorkerPool) -> None:
        first = asyncio.create_task(said(pool, "a", 5))
        await said(pool, "a", 1)
        assert loaded(pool) == ["a"], "another answer runs"
        assert await first == "Hello stop"
        await asyncio.sleep(1)
        assert loaded(pool) == []

    within(World({"a": MB}), for_ever, keep_alive_s=None)
    within(World({"a": MB}), at_once, keep_alive_s=0)


def test_the_one_used_longest_ago_is_evicted() -> None:
    world = World(dict.fromkeys("abc", 40 * MB))

    async def act(pool: WorkerPool) -> None:
        for name in "abac":
            await said(pool, name)
        assert loaded(pool) == ["a", "c"]
        assert pool.stats.evictions == 1
        assert [model.evictions for model in pool.stats.models] == [0, 1, 0]
        assert world.most_bytes == 80 * MB

    within(world, act, memory_limit=100 * MB)


def test_measured_memory_counts_once_it_is_loaded() -> None:
    world = World(dict.fromkeys("abc", 40 * MB), grown={"a": 10 * MB, "b": 90 * MB})

    async def act(pool: WorkerPool) -> None:
        await said(pool, "a")
        await said(pool, "c")
        assert loaded(pool) == ["a", "c"]
        await said(pool, "b")
        await asyncio.sleep(1)
        assert loaded(pool) == ["b"], "a and c had to go: b took more than it should"

    within(world, act, memory_limit=100 * MB)


def test_each_process_gets_what_the_others_leave() -> None:
    world = World(dict.fromkeys("ab", 40 * MB))

    async def act(pool: WorkerPool) -> None:
        await said(pool, "a")
        await said(pool, "b")
        assert [world.process(name).options.memory_limit for name in "ab"] == [100 * MB, 60 * MB]

    within(world, act, memory_limit="100MB")


@pytest.mark.parametrize(("context", "given"), [(None, None), (1000, 1000), (10**6, 4096)])
def test_a_context_for_all_models_is_at_most_that_of_each(context: int | None, given: int | None) -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        await said(pool, "a")
        assert world.process("a").options.context == given

    within(world, act, load=LoadOptions(context=context))


def test_a_context_is_at_most_the_models_own() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        await said(pool, "a")
        assert world.process("a").options.context == 4096
        assert world.process("a").options.memory_limit is None

    within(world, act, load=LoadOptions(context=100_000))


def test_a_model_in_use_is_waited_for_and_a_pinned_one_stays() -> None:
    world = World(dict.fromkeys("abc", 40 * MB))

    async def act(pool: WorkerPool) -> None:
        assert loaded(pool) == ["a"]
        slow = asyncio.create_task(said(pool, "b", 4))
        await asyncio.sleep(3)
        assert await said(pool, "c") == "Hello stop"
        assert slow.done()
        assert loaded(pool) == ["a", "c"]
        assert pool.loaded()[0].pinned
        await asyncio.sleep(10**6)
        assert loaded(pool) == ["a"]

    within(world, act, memory_limit=80 * MB, pinned=("a",))


def test_no_more_models_than_allowed() -> None:
    world = World(dict.fromkeys("abcd", MB))

    async def act(pool: WorkerPool) -> None:
        assert await asyncio.gather(*(said(pool, name) for name in "abcd" * 3)) == ["Hello stop"] * 12
        assert world.most_alive == 2

    within(world, act, max_models=2)


def test_what_does_not_fit_is_refused_at_once() -> None:
    world = World({"a": 40 * MB, "big": 200 * MB, "b": 70 * MB})

    async def act(pool: WorkerPool) -> None:
        with pytest.raises(DoesNotFit, match=r"big needs 200 MB, the pool's limit is 100 MB"):
            await said(pool, "big")
        with pytest.raises(DoesNotFit, match="1 model is pinned"):
            await said(pool, "b")
        assert world.loads == {"a": 1}

    within(world, act, memory_limit=100 * MB, pinned=("a",))


def test_waiting_for_room_has_an_end() -> None:
    world = World({"a": 80 * MB, "b": 80 * MB})

    async def act(pool: WorkerPool) -> None:
        slow = asyncio.create_task(said(pool, "a", 1000))
        await asyncio.sleep(5)
        with pytest.raises(QueueTimeout, match="no room for b in time: every model is in use"):
            await said(pool, "b")
        assert pool.stats.refused == 1
        assert await slow == "Hello stop"
        assert await said(pool, "b") == "Hello stop"

    within(world, act, memory_limit=100 * MB, queue_timeout_s=30)


def test_a_busy_model_does_not_keep_another_out_for_ever() -> None:
    world = World({"a": 80 * MB, "b": 80 * MB})

    async def act(pool: WorkerPool) -> None:
        ends = asyncio.get_running_loop().time() + 200

        async def client() -> None:
            while asyncio.get_running_loop().time() < ends:
                assert await said(pool, "a", 1.5) == "Hello stop"

        clients = []
        for _ in range(3):  # one of them always runs
            clients.append(asyncio.create_task(client()))
            await asyncio.sleep(1)
        began = asyncio.get_running_loop().time()
        assert await said(pool, "b") == "Hello stop"
        assert asyncio.get_running_loop().time() - began < worker_pool.PATIENCE_S + 20
        await asyncio.gather(*clients)

    within(world, act, memory_limit=100 * MB)


def test_a_waiting_request_that_is_given_up_holds_nobody_back() -> None:
    world = World({"a": 80 * MB, "b": 80 * MB})

    async def act(pool: WorkerPool) -> None:
        slow = asyncio.create_task(said(pool, "a", 100))
        await asyncio.sleep(5)
        waits = asyncio.create_task(said(pool, "b"))
        await asyncio.sleep(15)
        held = asyncio.create_task(said(pool, "a"))
        await asyncio.sleep(1)
        assert pool.stats.waiting == 2, "b has waited too long"
        waits.cancel()
        assert await held == "Hello stop"
        assert not slow.done()
        await slow

    within(world, act, memory_limit=100 * MB)


def test_full_queues() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        asked = [asyncio.create_task(said(pool, "a")) for _ in range(9)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(result, QueueFull) for result in results] == [False] * 8 + [True]
        asked = [asyncio.create_task(said(pool, "a")) for _ in range(9)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(result, QueueFull) for result in results) == 1, "of the process"
        assert pool.stats.refused == 2

    within(world, act, max_queue=4, slots=4)


def test_a_load_that_fails_is_told_to_all_and_changes_nothing() -> None:
    world = World({"a": MB, "bad": MB}, failing={"bad": ModelFilesError("broken")})

    async def act(pool: WorkerPool) -> None:
        results = await asyncio.gather(*(said(pool, "bad") for _ in range(3)), return_exceptions=True)
        assert [str(result) for result in results] == ["broken"] * 3
        assert world.loads == {"bad": 1}
        assert pool.stats.models[0].failed_loads == 1
        for _ in range(5):
            with pytest.raises(ModelFilesError):
                await said(pool, "bad")
        assert loaded(pool) == []
        del world.failing["bad"]
        assert await said(pool, "bad") == "Hello stop"

    within(world, act)


def test_an_unforeseen_error_while_loading() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        world.failing["a"] = RuntimeError("odd")  # type: ignore[assignment]
        with pytest.raises(RuntimeError, match="odd"):
            await said(pool, "a")
        del world.failing["a"]
        assert await said(pool, "a") == "Hello stop"

    within(world, act)


def test_a_crash_is_told_and_the_next_request_starts_again() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        asked = [asyncio.create_task(said(pool, "a")) for _ in range(3)]
        await asyncio.sleep(3.5)
        world.process("a").kill()
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(result) for result in results] == [WorkerDied] * 3
        assert pool.stats.models[0].answers == {"error": 3}
        assert pool.stats.crashes == 1
        assert await said(pool, "a") == "Hello stop"
        assert world.loads["a"] == 2

    within(world, act)


def test_a_pinned_model_is_started_again_at_once_but_not_for_ever() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        world.process("a").kill()
        await asyncio.sleep(3)
        assert loaded(pool) == ["a"]
        assert world.loads["a"] == 2
        for _ in range(5):
            await asyncio.sleep(3)
            for process in list(world.alive):
                process.kill()
        assert world.loads["a"] == 3
        assert loaded(pool) == []
        assert await said(pool, "a") == "Hello stop"
        world.process("a").kill()
        await asyncio.sleep(3)
        assert loaded(pool) == ["a"], "it answered in between"

    within(world, act, pinned=("a",))


def test_a_model_that_crashes_while_it_loads_is_refused_for_a_while() -> None:
    world = World({"a": MB}, failing={"a": WorkerDied("it ended")})

    async def act(pool: WorkerPool) -> None:
        for _ in range(3):
            with pytest.raises(WorkerDied, match="it ended"):
                await said(pool, "a")
        with pytest.raises(
            WorkerDied, match="a crashed 3 times in a row while it was loaded; lmsupply tries again in 1m00s"
        ):
            await said(pool, "a")
        assert world.loads["a"] == 3
        await asyncio.sleep(61)
        with pytest.raises(WorkerDied, match="it ended"):
            await said(pool, "a")
        with pytest.raises(WorkerDied, match="4 times in a row"):
            await said(pool, "a")
        del world.failing["a"]
        await asyncio.sleep(61)
        assert await said(pool, "a") == "Hello stop"

    within(world, act)


def test_a_pinned_model_that_crashes_while_it_is_started_again() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        world.failing["a"] = WorkerDied("it ended")
        world.process("a").kill()
        await asyncio.sleep(1000)
        assert world.loads["a"] == 4
        del world.failing["a"]
        assert await said(pool, "a") == "Hello stop"

    within(world, act, pinned=("a",))


def test_answers_that_are_given_up() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        answer = await pool.answer("a", asks())
        answer.cancel()
        answer.cancel()
        assert world.process("a").active == []
        answer = await pool.answer("a", asks())
        async for _ in answer:
            break
        await asyncio.sleep(0.1)
        assert world.process("a").active == []
        task = asyncio.create_task(said(pool, "a"))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait({task})
        del answer
        forgotten = await pool.answer("a", asks())
        del forgotten
        await asyncio.sleep(0)
        assert pool.stats.models[0].answers == {"cancelled": 4}
        await asyncio.sleep(601)
        assert loaded(pool) == [], "nobody uses it"

    within(world, act)


def test_a_request_that_is_given_up_while_the_model_loads() -> None:
    world = World({"a": MB})

    async def act(pool: WorkerPool) -> None:
        gives_up, stays = (asyncio.create_task(said(pool, "a")) for _ in range(2))
        await asyncio.sleep(1)
        gives_up.cancel()
        assert await stays == "Hello stop"
        assert world.loads["a"] == 1
        await asyncio.sleep(1000)
        alone = asyncio.create_task(said(pool, "a"))
        await asyncio.sleep(1)
        alone.cancel()
        await asyncio.sleep(2)
        assert loaded(pool) == ["a"]
        await asyncio.sleep(600)
        assert loaded(pool) == []

    within(world, act)


def test_a_model_is_unloaded_after_its_answers() -> None:
    world = World({"a": MB, "b": MB})

    async def act(pool: WorkerPool) -> None:
        assert not await pool.unload("a")
        running = asyncio.create_task(said(pool, "a", 5))
        await asyncio.sleep(3)
        unloading = asyncio.create_task(pool.unload("a"))
        await asyncio.sleep(1)
        late = asyncio.create_task(said(pool, "a"))
        assert await unloading
        assert running.done()
        assert await running == "Hello stop"
        assert await late == "Hello stop"
        assert world.loads["a"] == 2
        loading = asyncio.create_task(pool.load("b"))
        await asyncio.sleep(1)
        assert await pool.unload("b")
        await loading
        assert loaded(pool) == ["a"]

    within(world, act)


def test_the_end_of_a_pool() -> None:
    world = World({"a": 60 * MB, "b": 60 * MB, "c": 20 * MB})

    async def main() -> None:
        async with world.pool(memory_limit=100 * MB) as pool:
            short = asyncio.create_task(said(pool, "a", 2))
            long = asyncio.create_task(said(pool, "a", 1000))
            await asyncio.sleep(3)
            no_room = asyncio.create_task(said(pool, "b"))
            loading = asyncio.create_task(said(pool, "c"))
            await asyncio.sleep(0.5)
            closing = asyncio.create_task(pool.close(grace_s=10))
            await asyncio.sleep(0)
            with pytest.raises(QueueTimeout, match="this program stops"):
                await said(pool, "a")
            await closing
            for refused in (no_room, loading):
                with pytest.raises(QueueTimeout, match="this program stops"):
                    await refused
            assert await short == "Hello stop"
            assert await long == " cancelled"
            assert not world.alive
            await pool.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_long_time_to_finish() -> None:
    world = World({"a": MB})

    async def main() -> None:
        pool = world.pool()
        running = asyncio.create_task(said(pool, "a", 100))
        await asyncio.sleep(3)
        await pool.close(grace_s=300)
        assert await running == "Hello stop"

    run(main())


def test_a_close_that_is_given_up_kills() -> None:
    world = World({"a": MB})

    async def main() -> None:
        pool = world.pool()
        running = asyncio.create_task(said(pool, "a", 1000))
        await asyncio.sleep(3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.close(grace_s=10000), 5)
        with pytest.raises(WorkerDied):
            await running
        assert not world.alive

    run(main())


def test_a_pinned_model_that_cannot_be_loaded_ends_the_start() -> None:
    world = World({"a": MB, "bad": MB}, failing={"bad": EngineError("broken")})

    async def main() -> None:
        with pytest.raises(EngineError, match="broken"):
            async with world.pool(pinned=("a", "bad")):
                pass
        with pytest.raises(ModelNotFound):
            async with world.pool(pinned=("a", "none")):
                pass
        assert not world.alive

    run(main())


def test_a_license_that_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({"a": 60 * MB, "b": 60 * MB})

    def check(model: object) -> None:
        if model.ref == "b":  # type: ignore[attr-defined]
            raise LicenseNotAccepted("no")

    monkeypatch.setattr(worker_pool, "check_accepted", check)

    async def act(pool: WorkerPool) -> None:
        await said(pool, "a")
        with pytest.raises(LicenseNotAccepted):
            await said(pool, "b")
        assert loaded(pool) == ["a"], "nothing is evicted for it"

    within(world, act, memory_limit=100 * MB)


@pytest.mark.parametrize(
    "wrong", [{"max_models": 0}, {"max_queue": -1}, {"slots": 0}, {"keep_alive_s": -1}, {"memory_limit": "many"},
              {"keep_alive_s": math.nan}]
)  # fmt: skip
def test_options_that_are_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        WorkerPoolOptions(**wrong)
