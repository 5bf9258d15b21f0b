"""Queues and pools, with models that are scripted and clocks that stand still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psutil
import pytest

from lmsupply_cli import CancelToken, DoesNotFit, EngineError, Finished, QueueFull, QueueTimeout, UsageError, load
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.formats.families import ChatML
from lmsupply_cli.engine.fake import FakeModel, replies
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.serving.factory import ModelFactory
from lmsupply_cli.serving.generator_pool import GeneratorPool
from lmsupply_cli.serving.model_pool import ModelPool, PoolHooks


def fake(ref: str = "fake") -> TextGenerator:
    info = ModelInfo(ref, None, UNKNOWN_LICENSE, "cpu", 1, 400)
    model = FakeModel(replies("an answer of some length"), context_length=400)
    return TextGenerator(model, ChatML(), info, options=GenerationOptions(temperature=0))


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Worker(threading.Thread):
    """Runs `act` and keeps what it gave or raised."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.act, self.result, self.error = act, None, None  # type: ignore[assignment]
        self.start()

    def run(self) -> None:
        try:
            self.result = self.act()
        except Exception as error:
            self.error = error

    def done(self) -> object:
        self.join(20)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.result


# one model, many callers


def test_they_come_in_the_order_of_asking() -> None:
    with GeneratorPool(fake()) as pool:
        first = pool.stream("x")
        next(first)
        order: list[int] = []
        workers = []
        for number in range(5):

            def ask(number: int = number) -> None:
                pool.generate("x")
                order.append(number)

            workers.append(Worker(ask))
            until(lambda number=number: pool.stats.waiting == number + 1)  # type: ignore[misc]
        assert pool.stats.running == 1
        list(first)
        for worker in workers:
            worker.done()
        assert order == [0, 1, 2, 3, 4]
        assert pool.stats.answered == 6


def test_no_more_at_once_than_were_allowed() -> None:
    with GeneratorPool(fake(), concurrency=2) as pool:
        one, two = pool.stream("x"), pool.stream("y")
        next(one), next(two)
        third = Worker(lambda: pool.generate("z").text)
        until(lambda: pool.stats.waiting == 1)
        assert "".join(e.text for e in one if hasattr(e, "text")) == "an answer of some length"
        assert third.done() == "an answer of some length"
        assert "".join(e.text for e in two if hasattr(e, "text")) == "an answer of some length"


def test_a_queue_that_is_full() -> None:
    with GeneratorPool(fake(), queue_limit=1) as pool:
        running = pool.stream("x")
        next(running)
        waiting = Worker(lambda: pool.generate("x"))
        until(lambda: pool.stats.waiting == 1)
        with pytest.raises(QueueFull, match="1 requests are already waiting"):
            pool.generate("x")
        assert pool.stats.refused == 1
        list(running)
        waiting.done()
        assert pool.generate("x").text, "there is room again"


def test_a_request_that_waits_can_be_cancelled_or_give_up() -> None:
    now = [0.0]
    with GeneratorPool(fake(), timeout_s=5, clock=lambda: now[0]) as pool:
        running = pool.stream("x")
        next(running)
        token = CancelToken()
        waiting = Worker(lambda: pool.generate("x", cancel=token))
        until(lambda: pool.stats.waiting == 1)
        token.cancel()
        found = waiting.done()
        assert (found.text, found.finish_reason) == ("", "cancelled")  # type: ignore[attr-defined]
        late = Worker(lambda: pool.generate("x"))
        until(lambda: pool.stats.waiting == 1)
        now[0] = 6.0
        with pytest.raises(QueueTimeout, match="within 5 s"):
            late.done()
        assert pool.stats.gave_up == 2
        list(running)


def test_a_stream_that_is_given_up_frees_its_place() -> None:
    with GeneratorPool(fake()) as pool:
        events = pool.stream("x")
        next(events)
        events.close()  # type: ignore[attr-defined]
        assert pool.stats.running == 0
        assert isinstance(list(pool.stream_chat([{"role": "user", "content": "x"}]))[-1], Finished)


def test_a_closed_pool() -> None:
    pool = GeneratorPool(fake())
    model = pool._slots[0].model
    pool.close()
    pool.close()
    assert model.closed  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match="closed"):
        pool.generate("x")
    with pytest.raises(UsageError):
        GeneratorPool(fake(), concurrency=0)


def test_a_stream_that_is_held_half_way_does_not_keep_the_pool_open() -> None:
    with GeneratorPool(fake(), grace_s=0.01) as pool:
        events = pool.stream("x")
        next(events)
    with pytest.raises(EngineError):
        list(events)


def test_two_at_once_on_the_real_engine() -> None:
    with GeneratorPool(load("guide"), concurrency=2) as pool:
        pool.warm_up()
        workers = [
            Worker(lambda q=q: pool.generate(q, temperature=0).text)  # type: ignore[misc]
            for q in ("hello", "thanks", "How do I list my models?") * 2
        ]
        found = [str(worker.done()) for worker in workers]
        assert [text[:5] for text in found] == ["Hello", "You a", "Run `"] * 2
        assert pool.count_tokens("hello") >= 1
        assert pool.info.ref == "guide"


# several models


class World:
    """What a pool is given instead of the machine."""

    def __init__(self, **sizes: int) -> None:
        self.sizes, self.free, self.now = sizes, 10**12, 0.0
        self.loaded: list[str] = []
        self.models: dict[str, TextGenerator] = {}
        self.gate: threading.Event | None = None

    def load(self, ref: str) -> TextGenerator:
        self.loaded.append(ref)
        if self.gate:
            self.gate.wait(20)
        if self.sizes[ref] < 0:
            raise EngineError("broken")
        self.models[ref] = fake(ref)
        return self.models[ref]

    def pool(self, **more: object) -> ModelPool:
        return ModelPool(
            hooks=PoolHooks(
                load=self.load, needed_bytes=lambda ref: abs(self.sizes[ref]), probe_memory=lambda: self.free,
                clock=lambda: self.now,
            ), **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def closed(self, ref: str) -> bool:
        return bool(self.models[ref].model.closed)  # type: ignore[attr-defined]


def touch(world: World, pool: ModelPool, ref: str) -> None:
    world.now += 1
    with pool.use(ref) as model:
        assert model.generate("x").text


def test_who_was_used_longest_ago_goes_first() -> None:
    world = World(a=40, b=40, c=40)
    with world.pool(memory_limit=100) as pool:
        for ref in ("a", "b", "a", "c"):
            touch(world, pool, ref)
        assert [model.ref for model in pool.stats.models] == ["a", "c"]
        assert world.closed("b")
        assert not world.closed("a")
        assert (pool.stats.loads, pool.stats.hits, pool.stats.evictions) == (3, 1, 1)
        assert pool.stats.bytes == 80
        touch(world, pool, "b")
        assert world.loaded == ["a", "b", "c", "b"]
    assert all(world.closed(ref) for ref in "abc")


def test_no_more_models_than_allowed() -> None:
    world = World(a=1, b=1, c=1)
    with world.pool(max_models=2) as pool:
        for ref in "abc":
            touch(world, pool, ref)
        assert [model.ref for model in pool.stats.models] == ["b", "c"]


def test_a_pinned_model_stays() -> None:
    world = World(a=40, b=40, c=40)
    with world.pool(memory_limit=80) as pool:
        pool.pin("a")
        for ref in ("a", "b", "c"):
            touch(world, pool, ref)
        assert [(model.ref, model.pinned) for model in pool.stats.models] == [("a", True), ("c", False)]
        pool.pin("c")
        with pytest.raises(DoesNotFit, match="2 models are pinned"), pool.use("b"):
            pass
        pool.unpin("a")
        touch(world, pool, "b")
        assert [model.ref for model in pool.stats.models] == ["c", "b"]


def test_a_model_in_use_is_never_evicted() -> None:
    world = World(a=80, b=80)
    with world.pool(memory_limit=100) as pool:
        with pool.use("a") as model:
            waiting = Worker(lambda: touch(world, pool, "b"))
            until(lambda: pool.stats.waiting == 1)
            assert world.loaded == ["a"]
            assert model.generate("x").text
            assert pool.stats.models[0].in_use == 1
        waiting.done()
        assert world.loaded == ["a", "b"]


def test_waiting_for_room_has_an_end() -> None:
    world = World(a=80, b=80)
    with world.pool(memory_limit=100) as pool, pool.use("a"):
        waiting = Worker(lambda: pool.use("b", timeout_s=5).__enter__())
        until(lambda: pool.stats.waiting == 1)
        world.now += 6
        with pytest.raises(QueueTimeout, match="every model is in use"):
            waiting.done()


def test_idle_models_go_after_their_time() -> None:
    world = World(a=1, b=1)
    with world.pool(idle_timeout_s=60) as pool:
        touch(world, pool, "a")
        world.now += 30
        touch(world, pool, "b")
        world.now += 40
        assert pool.sweep() == ["a"]
        assert [model.ref for model in pool.stats.models] == ["b"]


def test_of_one_model_there_is_one_load_at_a_time() -> None:
    world = World(a=1)
    world.gate = threading.Event()
    with world.pool() as pool:
        workers = [Worker(lambda: touch(world, pool, "a")) for _ in range(5)]
        until(lambda: world.loaded == ["a"] and pool.stats.waiting == 4)
        world.gate.set()
        for worker in workers:
            worker.done()
        assert world.loaded == ["a"]
        assert pool.stats.hits == 4


def test_a_load_that_fails_leaves_the_pool_as_it_was() -> None:
    world = World(a=40, bad=-40)
    with world.pool(memory_limit=100) as pool:
        for _ in range(2):
            with pytest.raises(EngineError, match="broken"), pool.use("bad"):
                pass
        touch(world, pool, "a")
        assert [model.ref for model in pool.stats.models] == ["a"]


def test_what_can_never_fit_is_said_with_numbers() -> None:
    world = World(a=2_000_000_000)
    limited = pytest.raises(DoesNotFit, match=r"a needs 2\.0 GB, the pool's limit")
    with world.pool(memory_limit="1GB") as pool, limited, pool.use("a"):
        pass
    world.free = 1_000_000_000
    with world.pool() as pool, pytest.raises(DoesNotFit, match=r"1\.0 GB is free"), pool.use("a"):
        pass


def test_eviction_really_gives_the_memory_back() -> None:
    """Thirty loads in a pool of one: what the process holds does not grow with them."""
    process = psutil.Process()

    with ModelPool(max_models=1, context=1024) as pool:
        from pathlib import Path

        other = str(Path(__file__).parent.parent / "models" / "llama")
        for ref in ("guide", other) * 3:
            with pool.use(ref) as model:
                model.generate("hello", max_tokens=2)
        before = process.memory_info().rss
        for ref in ("guide", other) * 12:
            with pool.use(ref) as model:
                model.generate("hello", max_tokens=2)
        grown = process.memory_info().rss - before
        assert pool.stats.evictions == 29
        one = pool.stats.models[0].bytes
        assert one > 0
    assert grown < 20_000_000, "24 models of at least 5 MB would have stayed"


# shared while it is used


def test_the_factory_shares_what_is_in_use() -> None:
    factory = ModelFactory()
    assert factory.is_available("guide")
    assert not factory.is_available("phi-4")
    assert not factory.is_available("no such model")
    assert factory.list()[0].ref == "guide"
    one = factory.create("guide")
    with factory.create("guide") as model:
        assert model is one.model
        assert model.generate("thanks", temperature=0).text == "You are welcome!"
    assert one.model.generate("thanks", temperature=0).text == "You are welcome!", "one user is left"
    one.close()
    one.close()
    with pytest.raises(EngineError, match="closed"):
        one.model.generate("thanks")
    with factory.create("guide", context=200) as again:
        assert again is not one.model
