"""A model in a process of its own: what a served token costs beyond one in this process, the throughput of requests that
wait together against one after the other, and the longest pause of the event loop while 2,000 tokens are read.

python benchmarks/model_process.py MODEL [TOKENS] [REQUESTS]
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Sequence

from lmsupply_cli import load
from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.events import Finished, TextDelta
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving.frames import WorkerLimits
from lmsupply_cli.serving.model_process import ModelProcess
from lmsupply_cli.serving.requests import AnswerRequest

ROUNDS = 3
PROMPT, LONG = 24, 2000  # tokens


def some_ids(count: int, seed: int) -> tuple[int, ...]:
    numbers = random.Random(seed)
    return tuple(numbers.randrange(300, 700) for _ in range(count))


async def asked(process: ModelProcess, ids: Sequence[int], tokens: int) -> tuple[float, Finished]:
    """Seconds from the first piece of text to the end, and the end."""
    options = {"max_tokens": tokens, "min_length": tokens, "temperature": 0}
    answer = await process.answer(AnswerRequest(ids=tuple(ids), options=options))
    first = 0.0
    async for event in answer:
        if isinstance(event, TextDelta) and not first:
            first = time.perf_counter()
    assert isinstance(event, Finished)
    return time.perf_counter() - first, event


async def overhead(ref: str, process: ModelProcess, tokens: int) -> None:
    here: list[float] = []
    served: list[float] = []
    with load(ref, context=process.context_tokens) as model:
        options = model.options.replaced(max_tokens=tokens, min_length=tokens, temperature=0)
        for number in range(ROUNDS):
            ids = some_ids(PROMPT, number)
            *_, end = model.stream_prompt(Prompt("", ids, (), continues=True), options)
            assert isinstance(end, Finished)
            here.append(end.timings.decode_s / tokens)
            seconds, _ = await asked(process, ids, tokens)
            served.append(seconds / (tokens - 1))
    one, other = statistics.median(here) * 1000, statistics.median(served) * 1000
    print(f"a token: {one:.2f} ms here, {other:.2f} ms served, {other - one:+.2f} ms")


async def throughput(process: ModelProcess, tokens: int, requests: int) -> None:
    for number in range(ROUNDS):
        prompts = [some_ids(PROMPT, 100 * number + row) for row in range(2 * requests)]
        began = time.perf_counter()
        for ids in prompts[:requests]:
            await asked(process, ids, tokens)
        alone = requests * tokens / (time.perf_counter() - began)
        before = asyncio.create_task(asked(process, some_ids(64, number), 1))  # what they wait for
        await asyncio.sleep(0)
        began = time.perf_counter()
        await asyncio.gather(*(asked(process, ids, tokens) for ids in prompts[requests:]))
        together = requests * tokens / (time.perf_counter() - began)
        await before
        print(
            f"{requests} requests: {alone:.1f} tokens/s one by one, {together:.1f} together, × {together / alone:.2f}"
        )


async def pause(process: ModelProcess) -> None:
    longest, over = 0.0, asyncio.Event()

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not over.is_set():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            last, longest = now, max(longest, now - last - 0.001)

    ticking = asyncio.create_task(tick())
    length = min(LONG, process.context_tokens - 16)
    _, end = await asked(process, some_ids(length, 7), 4)
    over.set()
    await ticking
    print(f"{length:,} tokens read in {end.timings.prefill_s:.1f} s, longest pause {longest * 1000:.1f} ms")


async def main() -> None:
    ref = sys.argv[1]
    tokens = int(sys.argv[2]) if len(sys.argv) > 2 else 48
    requests = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    probe = await ModelProcess.start(ref, LoadOptions(), limits=WorkerLimits())
    context = min(probe.context_tokens, 2 * LONG)
    await probe.close()
    process = await ModelProcess.start(ref, LoadOptions(context=context), limits=WorkerLimits())
    await asked(process, some_ids(PROMPT, 99), 4)
    await pause(process)
    await overhead(ref, process, tokens)
    await throughput(process, tokens, requests)
    await process.close()


if __name__ == "__main__":
    asyncio.run(main())
