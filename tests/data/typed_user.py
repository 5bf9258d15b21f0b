"""A program that uses the library, for a strict type checker."""

from __future__ import annotations

from lmsupply import (
    ChatSession,
    GenerationOptions,
    GeneratorPool,
    Guidance,
    LoadOptions,
    TextGenerator,
    TextGeneratorBuilder,
    load,
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


with load("guide", context=512, speculative="ngram") as model:
    text: str = answer(model)
with TextGeneratorBuilder().with_model("guide").with_default_options(top_k=5).build_pool(2) as pool:
    said: list[str] = chat(pool)
rows: list[tuple[str, str]] = plan_load("guide", LoadOptions(threads=1)).rows()
