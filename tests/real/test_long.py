"""A context of several thousand tokens of real text: pages of the documentation."""

from __future__ import annotations

import math
from pathlib import Path

from lmsupply_cli import TextGenerator

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = ("run.md", "chat.md", "memory.md", "structured-output.md")
TOKENS = 3000


def paragraphs(model: TextGenerator) -> tuple[list[str], list[str]]:
    """Those that make up about `TOKENS` tokens, and the rest."""
    found = "\n\n".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES).split("\n\n")
    total = 0
    for at, paragraph in enumerate(found):
        total += len(model.model.encode(paragraph + "\n\n"))
        if total > TOKENS:
            return found[:at], found[at:]
    raise AssertionError(f"the pages have {total} tokens only")


def nats(model: TextGenerator, text: str, continuation: str) -> float:
    """Of each token of the continuation, the mean of -log(probability)."""
    scored = model.classify(text, [continuation, "\n"], raw=True).choices[0]
    return -scored.logprob / scored.tokens


def test_the_end_of_a_long_text_is_read_with_its_beginning_in_mind(model: TextGenerator) -> None:
    """Its text goes on as expected, a sentence from its first lines is recognized, and that takes both the whole text."""
    read, rest = paragraphs(model)
    text, next_text = "".join(f"{p}\n\n" for p in read), "\n\n".join(rest)[:500]
    sentence = next(p for p in read if len(p) > 200 and p[0].isalpha())
    start, end = sentence[:60], sentence[60:]
    after_all, quoted = nats(model, text, next_text), nats(model, text + start, end)
    assert model.cached_tokens > 0.9 * TOKENS
    again = model.generate(text + start, raw=True, max_tokens=2)
    assert again.usage.cached_tokens > 0.9 * TOKENS
    lately = text[-300:]
    after_little, unquoted = nats(model, lately, next_text), nats(model, lately + start, end)
    assert math.exp(after_all) < 60
    assert after_all < after_little
    assert quoted < unquoted - 0.7
