"""What guessing ahead gains: tokens a second without and with it, on text that repeats and on text that does not.

    python benchmarks/speculative.py MODEL_FOLDER [TOKENS [DRAFT_FOLDER]]

The engine computes as always; which token comes next is given, so that random weights can stand for a real model:
a list of JSON objects, an answer quoted back from the prompt, and this project's README as free text. A list that a
schema guides is really written by the weights. Plain and guessing run in turn; medians of three. Beside them the
engine's own prompt lookup, on the text that the weights write. With a draft model: what it gains in a free and in a
guided answer, both really written.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime_genai as engine

from lmsupply_cli import Guidance, load
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.generate import Run, prefill, stream_tokens
from lmsupply_cli.engine.speculative import NgramDrafter, stream_speculative
from lmsupply_cli.events import SpeculativeStats
from lmsupply_cli.hardware.host import usable_threads

ROUNDS = 3
JSON_LIST = "".join(f'{{"id": {n}, "name": "item {n}", "price": {n}.50, "in_stock": true}},\n' for n in range(10, 60))
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
QUOTED = README[2000:3200]


class Given:
    """Chooses the tokens of a script, whatever the scores are."""

    def __init__(self, script: Sequence[int]) -> None:
        self.script = script

    def choose(self, logits: object, *, completed: int) -> int:
        return self.script[completed]

    def observe(self, tokens: Sequence[int]) -> None:
        pass


def main() -> None:
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 96
    with load(folder) as model:
        encode = model.model.encode
        cases = {
            "JSON list": (encode("List the items as JSON.\n" + JSON_LIST[:300]), encode(JSON_LIST[300:])),
            "quoted back": (encode("Repeat this text.\n" + QUOTED + "\n"), encode(QUOTED)),
            "free text": (encode("Write about a tool.\n"), encode(README[300:])),
        }
        print(f"{folder.name}, {count} tokens")
        for name, (prompt, script) in cases.items():
            rates: dict[int, list[float]] = {0: [], 4: []}
            stats = SpeculativeStats()
            for _ in range(ROUNDS):
                for width in rates:
                    stats = SpeculativeStats()
                    rates[width].append(rate(model.model, prompt, script[:count], width, stats))
            plain, guessing = (statistics.median(found) for found in rates.values())
            print(
                f"{name:<12} plain {plain:6.1f} tokens/s, guessing {guessing:6.1f}: {guessing / plain:.2f} times, "
                f"{stats.accepted} of {stats.proposed} guesses right"
            )
    guided(folder, "ngram")
    own(folder, count)
    if len(sys.argv) > 3:
        drafted(folder, sys.argv[3], count)
        guided(folder, f"draft:{sys.argv[3]}")


def drafted(folder: Path, draft: str, count: int) -> None:
    """A free answer by greedy decoding, alone and with guesses by a smaller model."""
    compare("by a draft", folder, f"draft:{draft}", None, count)


def guided(folder: Path, speculative: str) -> None:
    """A list that a schema asks for, really written by the weights: the engine guesses, since it knows the grammar."""
    item = {
        "type": "object",
        "properties": {
            "name": {"enum": ["alpha", "beta"]},
            "in_stock": {"type": "boolean"},
            "currency": {"const": "EUR"},
        },
        "required": ["name", "in_stock", "currency"],
    }
    guidance = Guidance.json_schema({"type": "array", "items": item, "minItems": 6, "maxItems": 6})
    compare("guided list" if speculative == "ngram" else "and guided", folder, speculative, guidance, 512)


def compare(name: str, folder: Path, speculative: str, guidance: Guidance | None, count: int) -> None:
    rates: dict[str, list[float]] = {"off": [], speculative: []}
    texts = set()
    stats = None
    for _ in range(ROUNDS):
        for how, found in rates.items():
            with load(folder, speculative=how, guidance=guidance, context=1024) as model:
                answer = model.generate("List them.", temperature=0, repetition_penalty=1.0, max_tokens=count)
            found.append(answer.usage.completion_tokens / answer.timings.decode_s)
            texts.add(answer.text)
            stats = answer.speculative or stats
    plain, guessing = (statistics.median(found) for found in rates.values())
    assert stats is not None
    print(
        f"{name:<12} plain {plain:6.1f} tokens/s, guessing {guessing:6.1f}: {guessing / plain:.2f} times, "
        f"{stats.accepted} of {stats.proposed} guesses right, {'the same answer' if len(texts) == 1 else f'{len(texts)} different answers'}"
    )


def rate(model, prompt, script, width, stats) -> float:  # type: ignore[no-untyped-def]
    decoder = model.new_decoder(capacity_tokens=len(prompt) + len(script) + 8)
    for _ in prefill(decoder, prompt, run=Run(), cancel=CancelToken()):
        pass
    settings = {"max_tokens": len(script), "eos_ids": (), "run": Run(), "cancel": CancelToken()}
    began = time.monotonic()
    if width:
        more = {"drafter": NgramDrafter(), "draft_tokens": width, "stats": stats}
        made = list(stream_speculative(decoder, Given(script), **settings, **more))
    else:
        made = list(stream_tokens(decoder, Given(script), **settings))
    seconds = time.monotonic() - began
    assert made == list(script)
    decoder.close()
    return len(made) / seconds


def own(folder: Path, count: int) -> None:
    """The engine's own lookup, on what the weights write greedily after a JSON list."""
    config = engine.Config(str(folder))
    session = {"intra_op_num_threads": usable_threads()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = engine.Model(config)
    ids = np.asarray(engine.Tokenizer(model).encode(JSON_LIST[:600]), dtype=np.int32)
    rates: dict[int, list[float]] = {0: [], 4: []}
    said, stats = [], {}
    for _ in range(ROUNDS):
        for width in rates:
            params = engine.GeneratorParams(model)
            params.set_search_options(max_length=len(ids) + count + 8, do_sample=False)
            if width:
                params.set_speculative_options(ngram_size=3, max_draft_tokens=width)
            generator = engine.Generator(model, params)
            for start in range(0, len(ids), 64):
                generator.append_tokens(ids[start : start + 64])
            began = time.monotonic()
            while generator.token_count() < len(ids) + count and not generator.is_done():
                generator.generate_next_token()
            rates[width].append((generator.token_count() - len(ids)) / (time.monotonic() - began))
            said.append(generator.get_sequence(0)[len(ids) : len(ids) + count].tolist())
            stats = generator.get_speculative_stats() if width else stats
    plain, guessing = (statistics.median(found) for found in rates.values())
    print(
        f"engine's own plain {plain:6.1f} tokens/s, guessing {guessing:6.1f}: {guessing / plain:.2f} times, "
        f"{stats['draft_tokens_accepted']} of {stats['draft_tokens_proposed']} guesses right"
    )


if __name__ == "__main__":
    main()
