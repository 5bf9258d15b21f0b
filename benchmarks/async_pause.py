"""The longest pause of an event loop while a model reads a long prompt: with `load_async`, and with `load` in a thread.

    python benchmarks/async_pause.py MODEL [--tokens 2000] [--rounds 5] [--threads N] [--realtime]

MODEL is installed, with a context for the prompt. A task of the loop wakes every millisecond and notes how late it is, as a
server's other requests would be. With `load_async` four answers are streamed at once, each with a prompt of its own; with
`load` one is generated in a thread of the same process. Printed is the longest pause of each round. Other programs on the
machine delay the loop too: `idle` is the same measurement while nothing is asked, and in brackets stands the most that the
loop itself computed between two wakes. With `--realtime` the loop gets a core at once, on a machine that does other work.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from lmsupply import AsyncTextGenerator, Finished, TextGenerator, load, load_async

ANSWERS = 4
_numbers = itertools.count()


class Round(NamedTuple):
    """Milliseconds of the longest pause, and of the most that the loop's thread computed in one; seconds of prefill."""

    longest_ms: float
    own_ms: float
    prefill_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=2000, help="of a prompt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--realtime", action="store_true", help="the loop never waits for a core (Linux, as root)")
    options = parser.parse_args()
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    print(f"{os.cpu_count()} cores, prompts of {options.tokens:,} tokens")
    asyncio.run(measure(options))


async def measure(options: argparse.Namespace) -> None:
    words = 0
    async with await load_async(options.model, concurrency=ANSWERS, threads=options.threads) as model:
        while await model.count_tokens(prompt(words)) < options.tokens:
            words += 50
        await show("idle", options.rounds, idle)
        await show(f"load_async, {ANSWERS} answers", options.rounds, lambda: in_process(model, words))
    with load(options.model, threads=options.threads) as here:
        await show("load, in a thread", options.rounds, lambda: in_thread(here, words))


def prompt(words: int) -> str:
    """A text that no prompt before began with."""
    return f"Text {next(_numbers)}: " + "river stone cloud letter garden " * (words // 5) + "\nWhat is it about?"


async def show(name: str, rounds: int, work: Callable[[], Awaitable[float]]) -> None:
    found = [await watched(work) for _ in range(rounds)]
    pauses = ", ".join(f"{one.longest_ms:.1f} ({one.own_ms:.1f})" for one in found)
    prefill_s = max(one.prefill_s for one in found)
    print(f"{name}: longest pauses (computing) {pauses} ms; prefill {prefill_s:.1f} s", flush=True)


async def watched(work: Callable[[], Awaitable[float]]) -> Round:
    """The longest pause of the loop while `work` is done."""
    longest = own = 0.0

    async def heartbeat() -> None:
        nonlocal longest, own
        while True:
            began, computed = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began - 0.001)
            own = max(own, time.thread_time() - computed)

    beating = asyncio.create_task(heartbeat())
    prefill_s = await work()
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating
    return Round(longest * 1000, own * 1000, prefill_s)


async def idle() -> float:
    await asyncio.sleep(5)
    return 0.0


async def in_process(model: AsyncTextGenerator, words: int) -> float:
    async def one() -> float:
        async for event in model.astream(prompt(words), max_tokens=8):
            if isinstance(event, Finished):
                return event.timings.prefill_s
        return 0.0

    return max(await asyncio.gather(*(one() for _ in range(ANSWERS))))


async def in_thread(model: TextGenerator, words: int) -> float:
    answer = await asyncio.to_thread(model.generate, prompt(words), max_tokens=8)
    return answer.timings.prefill_s


if __name__ == "__main__":
    main()
