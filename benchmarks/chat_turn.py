"""How long the next turn of a chat takes to its first token: with the prompt cache, and read anew.

    python benchmarks/chat_turn.py MODEL_FOLDER [TOKENS]

The history has TOKENS tokens (4,096), the last 128 of which were written one by one, as an answer is. Also
printed: the largest difference of a logit between the two ways, beside the spread of the logits, and whether the
likeliest token is the same; the engine's products may depend on how many tokens are read at once.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

from lmsupply_cli import load
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.prefill import Run, prefill

ROUNDS = 3
NEW_TOKENS = 24  # of a short question and the marks around it
ANSWER_TOKENS = 128


def main() -> None:
    folder = Path(sys.argv[1])
    history = int(sys.argv[2]) if len(sys.argv) > 2 else 4096
    with load(folder) as model:
        ids = [3 + (7 * n) % 500 for n in range(history)]
        decoder = model.model.new_decoder(capacity_tokens=history + 64)
        fresh, cached, off, spread, same = [], [], 0.0, 0.0, True
        for number in range(ROUNDS):
            asked = [*ids, *((11 + number + 3 * n) % 500 for n in range(NEW_TOKENS))]
            decoder.rewind(0)
            fresh.append(seconds(decoder, asked))
            anew = np.array(decoder.logits())
            decoder.rewind(history - ANSWER_TOKENS)
            for token in ids[history - ANSWER_TOKENS :]:
                decoder.append((token,))
            cached.append(seconds(decoder, asked))
            again = np.array(decoder.logits())
            off = max(off, float(np.abs(again - anew).max()))
            spread, same = float(anew.std()), same and bool(again.argmax() == anew.argmax())
    slow, fast = statistics.median(fresh), statistics.median(cached)
    print(f"{folder.name}: {history} tokens of history, {NEW_TOKENS} new ones, median of {ROUNDS}")
    print(f"read anew   {slow * 1000:9.0f} ms to the first token")
    print(f"from cache  {fast * 1000:9.0f} ms, {slow / fast:.0f} times sooner")
    print(
        f"logits      at most {off:.2g} apart, their standard deviation is {spread:.2g}; the likeliest token is {'the same' if same else 'another'}"
    )


def seconds(decoder, ids) -> float:  # type: ignore[no-untyped-def]
    began = time.monotonic()
    for _ in prefill(decoder, ids, run=Run(), cancel=CancelToken()):
        pass
    decoder.logits()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
