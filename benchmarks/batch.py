"""Tokens a second of several prompts at once against one after the other, on one loaded model.

python benchmarks/batch.py MODEL_FOLDER [PROMPTS] [TOKENS]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from lmsupply_cli import ChatMessage, load
from lmsupply_cli.runtime.batch import Asked, answer_batch
from lmsupply_cli.runtime.generator import complete

ROUNDS = 3


def main() -> None:
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 48
    with load(folder) as model:
        options = model.options.replaced(max_tokens=tokens, min_length=tokens)
        asked = [
            Asked(model.chat_prompt([ChatMessage.user(f"Question {n}: what is the use of a thing?")]), options)
            for n in range(count)
        ]
        rates: dict[str, list[float]] = {"one": [], "many": [], "one, decoding": [], "many, decoding": []}
        for _ in range(ROUNDS):
            began = time.monotonic()
            alone = [complete(model.stream_prompt(one.prompt, options)) for one in asked]
            rates["one"].append(count * tokens / (time.monotonic() - began))
            rates["one, decoding"].append(count * tokens / sum(answer.timings.decode_s for answer in alone))
            began = time.monotonic()
            together = answer_batch(model, asked)
            written = sum(answer.usage.completion_tokens for answer in together)
            rates["many"].append(written / (time.monotonic() - began))
            rates["many, decoding"].append(written / together[0].timings.decode_s)
    one, many, one_decoding, many_decoding = (statistics.median(found) for found in rates.values())
    print(f"{folder.name}: {count} prompts, {tokens} tokens each, median of {ROUNDS}")
    print(
        f"decoding          one {one_decoding:6.1f} tokens/s, {count} at once {many_decoding:6.1f}: {many_decoding / one_decoding:.2f} times"
    )
    print(f"prompts included  one {one:6.1f} tokens/s, {count} at once {many:6.1f}: {many / one:.2f} times")


if __name__ == "__main__":
    main()
