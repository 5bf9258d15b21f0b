"""A program that uses the library, for a strict type checker."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from lmsupply import (
    AsyncTextGenerator,
    ChatSession,
    Finished,
    GenerationOptions,
    GeneratorPool,
    Guidance,
    LoadOptions,
    TextGenerator,
    TextGeneratorBuilder,
    load,
    load_async,
    plan_load,
)


def answer(model: TextGenerator) -> str:
    for piece in model.stream_text("hello", temperature=0, stop="\n"):
        print(piece, end="")
    whole = model.generate("hello", guidance=Guidance.regex("(yes|no)"), seed=1, logprobs=True)
    assert whole.complete is not None
    return whole.text


def chat(pool: GeneratorPool) -> list[str]:
    session = ChatSession(pool, options=GenerationOptions(max_tokens=5))
    for _ in session.send("hello", temperature=0):
        pass
    return [message.content for message in session.messages]


async def ask(model: AsyncTextGenerator) -> list[str]:
    whole = await model.agenerate("hello", guidance=Guidance.regex("(yes|no)"), seed=1)
    asked = await model.achat([{"role": "user", "content": "hello"}], max_tokens=2)
    async with aclosing(model.astream("hello", max_tokens=2)) as events:
        reasons = [event.finish_reason async for event in events if isinstance(event, Finished)]
    texts = [piece async for piece in model.astream_text("hello", max_tokens=2)]
    return [whole.text, asked.finish_reason, *reasons, "".join(texts)]


async def main() -> list[str]:
    async with await load_async("guide", context=512, concurrency=2) as model:
        return await ask(model)


with load("guide", context=512, speculative="ngram") as model:
    text: str = answer(model)
with TextGeneratorBuilder().with_model("guide").with_default_options(top_k=5).build_pool(2) as pool:
    said: list[str] = chat(pool)
rows: list[tuple[str, str]] = plan_load("guide", LoadOptions(threads=1)).rows()
asynchronous: list[str] = asyncio.run(main())
