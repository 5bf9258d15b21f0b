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
        single, batch = [], []
        for _ in range(ROUNDS):
            began = time.monotonic()
            for one in asked:
                list(model.stream_prompt(one.prompt, options))
            single.append(count * tokens / (time.monotonic() - began))
            began = time.monotonic()
            answers = answer_batch(model, asked)
            batch.append(sum(a.usage.completion_tokens for a in answers) / (time.monotonic() - began))
    one, many = statistics.median(single), statistics.median(batch)
    print(f"{folder.name}: {count} prompts, {tokens} tokens each, prompts read included, median of {ROUNDS}")
    print(f"one after the other {one:6.1f} tokens/s, {count} at once {many:6.1f}: {many / one:.2f} times")


if __name__ == "__main__":
    main()
