"""What speculative decoding gains: tokens a second without and with it, on text that repeats and on text that does not.

    python benchmarks/speculative.py MODEL_FOLDER [TOKENS [DRAFT_FOLDER]]

The engine computes as always; which token comes next is given, so that random weights can stand for a real model:
a list of JSON objects, an answer quoted back from the prompt, and this project's README as free text. A list that a
schema guides is really written by the weights. Plain and speculative decoding run in turn; medians of three. With a
draft model: what it gains in a free and in a guided answer, both really written.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lmsupply_cli import Guidance, load
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.ending import Ending
from lmsupply_cli.engine.generate import stream_tokens
from lmsupply_cli.engine.prefill import Run, prefill
from lmsupply_cli.engine.speculative import NgramDrafter, stream_speculative
from lmsupply_cli.events import SpeculativeStats

ROUNDS = 3
JSON_LIST = "".join(f'{{"id": {n}, "name": "item {n}", "price": {n}.50, "in_stock": true}},\n' for n in range(10, 60))
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
QUOTED = README[2000:3200]


class Given:
    """Chooses the tokens of a script, whatever the scores are."""

    logprobs = None

    def __init__(self, script: Sequence[int]) -> None:
        self.script, self.at = script, 0

    def choose(self, logits: object) -> int:
        return self.script[self.at]

    def accept(self, token: int) -> None:
        self.at += 1


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
            plain, drafted = (statistics.median(found) for found in rates.values())
            print(
                f"{name:<12} plain {plain:6.1f} tokens/s, speculative {drafted:6.1f}: {drafted / plain:.2f} times, "
                f"{stats.accepted} of {stats.proposed} draft tokens accepted"
            )
    guided(folder, "ngram")
    if len(sys.argv) > 3:
        with_draft(folder, sys.argv[3], count)
        guided(folder, f"draft:{sys.argv[3]}")


def with_draft(folder: Path, draft: str, count: int) -> None:
    """A free answer by greedy decoding, alone and with a draft model."""
    compare("by a draft", folder, f"draft:{draft}", None, count)


def guided(folder: Path, speculative: str) -> None:
    """A list that a schema asks for, really written by the weights."""
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
    plain, drafted = (statistics.median(found) for found in rates.values())
    assert stats is not None
    print(
        f"{name:<12} plain {plain:6.1f} tokens/s, speculative {drafted:6.1f}: {drafted / plain:.2f} times, "
        f"{stats.accepted} of {stats.proposed} draft tokens accepted, {'the same answer' if len(texts) == 1 else f'{len(texts)} different answers'}"
    )


def rate(model, prompt, script, width, stats) -> float:  # type: ignore[no-untyped-def]
    decoder = model.new_decoder(capacity_tokens=len(prompt) + len(script) + 8)
    for _ in prefill(decoder, prompt, run=Run(), cancel=CancelToken()):
        pass
    settings = {"ending": Ending(len(script), ()), "run": Run()}
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


if __name__ == "__main__":
    main()
