"""Prefill and decode of imported models beside llama.cpp on the same file: tokens per second, and medians of paired ratios.

    python benchmarks/import_speed.py MODEL.gguf [--forms exact,int4:128] [--prefill 512] [--decode 96] [--rounds 5]

Each round runs llama.cpp, then every form, so that a busy machine slows all of them. Both take two threads (`--threads`)
and read a prompt as they do by default: llama.cpp at once, lmsupply in chunks of 64 tokens. `MB/token`: the weights that a
decoded token reads, which is the file without the embedding rows that are only looked up in and without rotary tables.
Needs llama-cpp-python.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from importing import imported

CHUNK = 64


class Speed(NamedTuple):
    """Tokens per second."""

    prefill: float
    decode: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--forms", default="exact", help="a precision, or precision:block")
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="keep the imported models in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        work = options.work or Path(made)
        folders = {form: imported(work, options.source, form)[0] for form in options.forms.split(",")}
        length = options.prefill + options.decode + 16
        theirs: Any = LlamaCpp(options.source, length, options.threads)
        ours: dict[str, Any] = {form: Ours(folder, length, options.threads) for form, folder in folders.items()}
        ids = np.random.default_rng(0).integers(100, theirs.vocabulary - 100, options.prefill).astype(np.int32)
        rounds = [
            {name: measured(model, ids, options.decode) for name, model in {"llama.cpp": theirs, **ours}.items()}
            for _ in range(options.rounds + 1)
        ][1:]  # the first one warms up
    print(f"{options.source.name}, {options.prefill} + {options.decode} tokens, {options.rounds} rounds")
    print(f"  {'':<12}{'prefill/s':>10}{'decode/s':>10}{'ratio':>8}{'ratio':>8}{'MB/token':>10}")
    for name in rounds[0]:
        prefill, decode = (statistics.median(getattr(row[name], kind) for row in rounds) for kind in Speed._fields)
        ratios = [
            statistics.median(getattr(row[name], kind) / getattr(row["llama.cpp"], kind) for row in rounds)
            for kind in Speed._fields
        ]
        size = f"{read_bytes(folders[name]) / 1e6:>10.0f}" if name in folders else ""
        print(f"  {name:<12}{prefill:>10.0f}{decode:>10.1f}{ratios[0]:>8.2f}{ratios[1]:>8.2f}{size}")


def measured(model: Any, ids: np.ndarray[Any, Any], tokens: int) -> Speed:
    model.restart()
    began = time.perf_counter()
    model.read(ids)
    between = time.perf_counter()
    for _ in range(tokens):
        model.step()
    return Speed(len(ids) / (between - began), tokens / (time.perf_counter() - between))


def read_bytes(folder: Path) -> int:
    """Of the initializers of model.onnx.data that are multiplied with."""
    import onnx

    graph = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph
    used = {name for node in graph.node if node.op_type in ("MatMulNBits", "MatMul", "Gemm") for name in node.input}
    sizes = {
        (row["offset"], row["length"])
        for tensor in graph.initializer
        if tensor.name in used and (row := {entry.key: entry.value for entry in tensor.external_data})
    }
    return sum(int(length) for _, length in sizes)


class Ours:
    def __init__(self, folder: Path, length: int, threads: int) -> None:
        import onnxruntime_genai

        import lmsupply_cli  # keeps the engine from reporting what it runs

        assert lmsupply_cli
        config = onnxruntime_genai.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self.model = onnxruntime_genai.Model(config)
        params = onnxruntime_genai.GeneratorParams(self.model)
        params.set_search_options(max_length=length, min_length=length)
        self.generator = onnxruntime_genai.Generator(self.model, params)

    def restart(self) -> None:
        self.generator.rewind_to(0)

    def read(self, ids: np.ndarray[Any, Any]) -> None:
        for start in range(0, len(ids), CHUNK):
            self.generator.append_tokens(ids[start : start + CHUNK])

    def step(self) -> None:
        self.generator.generate_next_token()


class LlamaCpp:
    def __init__(self, path: Path, length: int, threads: int) -> None:
        from llama_cpp import Llama

        self.model = Llama(str(path), n_ctx=length, n_threads=threads, n_threads_batch=threads, verbose=False)
        self.vocabulary = self.model.n_vocab()

    def restart(self) -> None:
        self.model.reset()

    def read(self, ids: np.ndarray[Any, Any]) -> None:
        self.model.eval(ids.tolist())

    def step(self) -> None:
        self.model.eval([100])


if __name__ == "__main__":
    main()
