"""Random lives of a pool: whatever is asked, given up, killed and unloaded, every request ends, and the limits hold."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.fake_processes import World, asks
from support.virtual_time import run

from lmsupply_cli.errors import (
    DoesNotFit,
    EngineError,
    LmsupplyError,
    ModelFilesError,
    QueueFull,
    QueueTimeout,
    WorkerDied,
)
from lmsupply_cli.events import Finished
from lmsupply_cli.serving.worker_pool import WorkerPool

MB = 10**6
SIZES = {
    "a": 20 * MB,
    "b": 30 * MB,
    "c": 45 * MB,
    "d": 60 * MB,
    "huge": 500 * MB,
    "broken": 10 * MB,
    "crashing": 10 * MB,
}
EXPECTED = (DoesNotFit, QueueFull, QueueTimeout, WorkerDied, ModelFilesError)


@dataclass
class Life:
    """`ends`: how requests ended, by word."""

    world: World
    pool: WorkerPool
    chance: random.Random
    ends: list[str] = field(default_factory=list)

    async def client(self) -> None:
        """One client: a few requests, one after the other, in every manner."""
        for _ in range(self.chance.randint(1, 6)):
            await asyncio.sleep(self.chance.choice((0, 0.1, 3, 20)))
            self.ends.append(await self.ask())

    async def ask(self) -> str:
        task = asyncio.create_task(self.answered())
        if self.chance.random() < 0.25:
            await asyncio.sleep(self.chance.uniform(0, 8))
            task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            return "given up"
        if error := task.exception():
            assert isinstance(error, EXPECTED), error
            return type(error).__name__
        return task.result()

    async def answered(self) -> str:
        keep_alive_s = self.chance.choice((None, None, None, 0.0, 2.0, math.inf))
        model = self.chance.choice(list(SIZES))
        if self.chance.random() < 0.1:
            await self.pool.load(model, keep_alive_s=keep_alive_s)
            return f"counted {await self.pool.count_tokens(model, asks())}"
        answer = await self.pool.answer(model, asks(self.chance.choice((0.1, 1, 5))), keep_alive_s=keep_alive_s)
        manner = self.chance.random()
        last = None
        try:
            async for event in answer:
                last = event
                if manner < 0.1:
                    break  # without a word
                if manner < 0.2:
                    answer.cancel()
        finally:
            if manner < 0.3:
                answer.cancel()
        return last.finish_reason if isinstance(last, Finished) else "left"

    async def trouble(self) -> None:
        """Kills and unloads until it is cancelled."""
        while True:
            await asyncio.sleep(self.chance.uniform(0, 12))
            if self.world.alive and self.chance.random() < 0.6:
                self.chance.choice(sorted(self.world.alive, key=lambda one: one.pid)).kill()
            else:
                await self.pool.unload(self.chance.choice("abcd"))

    async def look(self) -> None:
        """What holds at every moment."""
        while True:
            await asyncio.sleep(0.05)
            assert asyncio.get_running_loop().time() < 20_000, "a request never ends"
            assert len(self.world.alive) <= 3
            held = sum(process.bytes for process in self.world.alive) + self.world.starting
            assert held <= 110 * MB, "of all models and loads"
            names = [process.ref for process in self.world.alive]
            assert len(names) == len(set(names)), "one process for a model"
            assert all(size <= 110 * MB for size in [row.bytes for row in self.pool.loaded()])


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_every_request_ends(seed: int) -> None:
    chance = random.Random(seed)
    world = World(
        dict(SIZES),
        failing={"broken": ModelFilesError("broken"), "crashing": WorkerDied("it ended")},
        load_s=chance.choice((0.0, 0.5, 4)),
        total=chance.choice((10**13, 100 * MB)),
    )
    options: dict[str, Any] = {
        "memory_limit": 110 * MB,
        "max_models": 3,
        "keep_alive_s": chance.choice((None, 0, 5, 600)),
        "queue_timeout_s": chance.choice((None, 20, 300)),
        "max_queue": chance.choice((0, 4, 64)),
        "pinned": chance.choice(((), ("a",))),
    }

    async def main() -> Life:
        async with world.pool(**options) as pool:
            life = Life(world, pool, chance)
            watching = [asyncio.create_task(life.look()), asyncio.create_task(life.trouble())]
            clients = [asyncio.create_task(life.client()) for _ in range(20)]
            early = 30 if chance.random() < 0.3 else None
            everyone = asyncio.gather(*clients)
            await asyncio.wait({everyone, *watching}, timeout=early, return_when=asyncio.FIRST_COMPLETED)
            for task in watching:
                assert not task.done() or not task.result(), "raises what it found"
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)
            if early:
                await pool.close(grace_s=chance.choice((0, 3)))
            await everyone
            assert pool.stats.waiting <= len(options["pinned"]), "a pinned model may still wait for room"
            stats = pool.stats.models
            counted = sum(sum(model.answers.values()) for model in stats)
            assert counted >= sum(end in ("stop", "left") for end in life.ends)
            assert all(row.running == 0 for row in pool.loaded())
        assert not world.alive
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return life

    life = run(main())
    assert len(life.ends) >= 20


def test_errors_of_the_simulation_are_those_of_the_protocol() -> None:
    assert all(issubclass(error, LmsupplyError) for error in (*EXPECTED, EngineError))
