"""Tokens a second of several prompts at once against one after the other, on one loaded model: plain, with a guidance,
with long instructions before each prompt, and by the engine's own loop, which is the most that a batch can come to.

python benchmarks/batch.py MODEL_FOLDER [PROMPTS] [TOKENS]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from lmsupply_cli import ChatMessage, Guidance, TextGenerator, load
from lmsupply_cli.generation.batch import BatchItem, answer_alone, answer_batch

ROUNDS = 3


def ours(model: TextGenerator, asked: list[BatchItem], guidance: Guidance | None) -> dict[str, float]:
    """Tokens a second."""
    began = time.monotonic()
    alone = [answer_alone(model, one, guidance) for one in asked]
    ended = time.monotonic()
    together = answer_batch(model, asked, guidance=guidance)
    seconds = time.monotonic() - ended
    one, many = (sum(answer.usage.completion_tokens for answer in found) for found in (alone, together))
    return {
        "one": one / (ended - began),
        "many": many / seconds,
        "one, decoding": one / sum(answer.timings.decode_s for answer in alone),
        "many, decoding": many / together[0].timings.decode_s,
    }


def engines_own(model: Any, asked: list[BatchItem], tokens: int) -> float:
    """Tokens a second of greedy decoding where the engine chooses, without stops and text."""
    length = min(len(one.prompt.ids) for one in asked)
    generator = model.new_generator(
        capacity_tokens=length + tokens, batch_size=len(asked), do_sample=False, min_length=length + tokens
    )
    generator.append_tokens(np.array([one.prompt.ids[:length] for one in asked], dtype=np.int32))
    began = time.monotonic()
    for _ in range(tokens):
        generator.generate_next_token()
    return len(asked) * tokens / (time.monotonic() - began)


def main() -> None:
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 48
    guidance = Guidance.regex(f"[a-z ]{{{4 * tokens}}}")  # the limit ends it
    plain: list[dict[str, float]] = []
    guided: list[dict[str, float]] = []
    engine: list[float] = []
    with load(folder) as model:
        prompts = [
            model.prompter.chat([ChatMessage.user(f"Question {n}: what is the use of a thing?")]) for n in range(count)
        ]
        options = model.options.replaced(max_tokens=tokens, min_length=tokens)
        free = model.options.replaced(max_tokens=tokens)
        for _ in range(ROUNDS):
            plain.append(ours(model, [BatchItem(prompt, options) for prompt in prompts], None))
            guided.append(ours(model, [BatchItem(prompt, free) for prompt in prompts], guidance))
            engine.append(engines_own(model.model, [BatchItem(prompt, options) for prompt in prompts], tokens))
        instructions = ChatMessage.system("You say what a thing is good for, in one line. " * 16)
        chats = [[instructions, ChatMessage.user(f"Thing {n}")] for n in range(count)]
        seconds = []
        for size in (None, min(count, 32)):
            began = time.monotonic()
            model.generate_batch(chats, batch_size=size, max_tokens=tokens, min_length=tokens)
            seconds.append(time.monotonic() - began)
        chosen, fixed = seconds
    print(f"{folder.name}: {count} prompts, {tokens} tokens each, tokens a second, median of {ROUNDS}")
    for name, rounds in (("plain", plain), ("guided", guided)):
        rate = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for part in (", decoding", ""):
            one, many = rate[f"one{part}"], rate[f"many{part}"]
            what = "decoding" if part else "prompts included"
            print(f"{name:7} {what:17} one {one:6.1f}, {count} at once {many:6.1f}: {many / one:.2f} times")
    print(f"long instructions: as chosen {chosen:.1f} s, {count} at once {fixed:.1f} s: {fixed / chosen:.2f} times")
    many = statistics.median(one["many, decoding"] for one in plain)
    print(
        f"the engine's own loop, decoding: {statistics.median(engine):.1f}; ours {many / statistics.median(engine):.0%} of it"
    )


if __name__ == "__main__":
    main()
