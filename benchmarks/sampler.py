"""What choosing a token costs, free and guided, by the size of the vocabulary.

    python benchmarks/sampler.py [TOKENIZER_FOLDER ...]

Without folders: random logits, sharp and flat, at vocabularies of 32,000, 128,256 and 262,144. With folders that hold a
tokenizer.json, each with its own vocabulary: a guided answer by a schema, and how long the first one waits. Medians over
300 tokens, in milliseconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from lmsupply_cli import GenerationOptions, Guidance
from lmsupply_cli.engine.matcher import GuidanceVocabulary, Matcher
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.engine.token_bytes import read_decoding_rules
from lmsupply_cli.engine.tokenizer import encode_with, load_library
from lmsupply_cli.genai_config import tokenizer_head

SIZES = (32_000, 128_256, 262_144)
TOKENS = 300
OPTIONS = {
    "greedy": GenerationOptions(temperature=0),
    "default": GenerationOptions(seed=1),
    "no top-k": GenerationOptions(seed=1, top_k=0),
    "all penalties": GenerationOptions(
        seed=1, presence_penalty=0.5, frequency_penalty=0.5, no_repeat_ngram_size=3, logit_bias={7: 1.0}
    ),
}
SCHEMA = {
    "type": "array", "minItems": 60,
    "items": {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}, "required": ["name", "n"]},
}  # fmt: skip


class Tokens:
    """Those of a tokenizer.json."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        self.library = load_library(path)
        head = json.loads(tokenizer_head(path.read_bytes()))
        self.rules = read_decoding_rules(head["decoder"])
        self.names = {row["id"]: row["content"] for row in head["added_tokens"] if row.get("special")}
        self.size = self.library.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return encode_with(self.library, text)

    def token_bytes(self, token: int) -> bytes | None:
        written = self.library.id_to_token(token)
        if written is None or token in self.names or self.rules is None:
            return None
        return self.rules.bytes_of(written)


def cost(options: GenerationOptions, size: int, spread: float, matcher: Matcher | None = None) -> float:
    """Median milliseconds of a token."""
    rng = np.random.default_rng(1)
    rows = [rng.normal(scale=spread, size=size).astype(np.float32) for _ in range(8)]
    sampler = Sampler(options, vocabulary=size, eos_ids=[0], matcher=matcher)
    sampler.read(list(range(100, 600)))
    found = []
    for number in range(TOKENS):
        began = time.perf_counter()
        token = sampler.choose(rows[number % 8])
        if token == 0:
            break
        sampler.accept(token)
        found.append(1000 * (time.perf_counter() - began))
    return statistics.median(found)


def main() -> None:
    for size in SIZES:
        for name, options in OPTIONS.items():
            print(f"{size:>7,}  {name:<14} sharp {cost(options, size, 6):.2f} ms, flat {cost(options, size, 1):.2f} ms")
    for folder in map(Path, sys.argv[1:]):
        began = time.perf_counter()
        tokens = Tokens(folder)
        loaded = time.perf_counter()
        vocabulary = GuidanceVocabulary(tokens.size, tokens, tokens.names)
        matcher = Matcher(Guidance.json_schema(SCHEMA), vocabulary)
        matcher.allowed([0])
        first = time.perf_counter()
        guided = cost(OPTIONS["default"], tokens.size, 6, matcher)
        print(
            f"{tokens.size:>7,}  {folder.name}: tokenizer {loaded - began:.2f} s, first guided answer after {first - loaded:.2f} s, "
            f"then {guided:.2f} ms"
        )


if __name__ == "__main__":
    main()
