"""Our sampler beside the engine's: decode rate of one model folder, in turn, greedy and sampled.

    python benchmarks/sampler.py MODEL_FOLDER [TOKENS] [ROUNDS]

The figures in lmsupply_cli/engine/sampler.py come from here.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from lmsupply_cli import GenerationOptions
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import GenaiModel
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.hardware.host import usable_threads

OPTIONS = {
    "greedy": GenerationOptions(temperature=0, repetition_penalty=1.0),
    "sampled": GenerationOptions(seed=1),
    "sampled, no top-k": GenerationOptions(seed=1, top_k=0),
}


def main() -> None:
    folder, tokens = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 48
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    model = GenaiModel(open_folder(folder), threads=usable_threads())
    ids = [i % 200 + 3 for i in range(64)]

    def engine(options: GenerationOptions) -> float:
        search = {
            "repetition_penalty": options.repetition_penalty,
            "do_sample": not options.greedy,
            "min_length": 64 + tokens,
        }
        if not options.greedy:
            search |= {"temperature": options.temperature, "top_p": options.top_p, "random_seed": 1}
            search |= {"top_k": options.top_k} if options.top_k else {}
        generator = model.new_generator(capacity_tokens=64 + tokens, **search)
        generator.append_tokens(ids)
        began = time.perf_counter()
        for _ in range(tokens):
            generator.generate_next_token()
        return tokens / (time.perf_counter() - began)

    def ours(options: GenerationOptions) -> float:
        decoder = model.new_decoder(capacity_tokens=64 + tokens)
        decoder.append(ids)
        sampler = Sampler(options, vocabulary=model.shape.vocabulary, eos_ids=[])
        sampler.observe(ids)
        began = time.perf_counter()
        for number in range(tokens):
            token = sampler.choose(decoder.logits(), completed=number)
            sampler.observe((token,))
            if number < tokens - 1:
                decoder.append((token,))
        return tokens / (time.perf_counter() - began)

    for name, options in OPTIONS.items():
        found: dict[str, list[float]] = {"engine": [], "ours": []}
        for _ in range(rounds):
            found["engine"].append(engine(options))
            found["ours"].append(ours(options))
        rates = {key: statistics.median(values) for key, values in found.items()}
        print(
            f"{name:<18} engine {rates['engine']:7.1f}   ours {rates['ours']:7.1f} tokens/s   {rates['ours'] / rates['engine']:.3f}"
        )
    model.close()


if __name__ == "__main__":
    main()
