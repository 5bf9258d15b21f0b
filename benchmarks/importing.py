"""What an import keeps of a model, and what it takes: quality, size, time and memory of each form.

    python benchmarks/importing.py SOURCE… [--forms exact,int8,int4:64] [--reference SOURCE] [--llama-cpp [--answers]]

SOURCE is a GGUF file, a folder of safetensors, or, with `--reference`, a model folder that something else made. Each form is written and run in a process of its own and judged by the
fp32 form of the same source, or of `--reference`, on a text (the prose of this project's docs): KL divergence, share of
the same likeliest token, perplexity. `bits`: per weight, in the source and as written. `MB/s`: of the source; `CPU` tells
more on a machine with other work. `peak`: the highest resident memory of the import (Linux: VmHWM).

With `--llama-cpp` (needs llama-cpp-python) llama.cpp reads the same text from each GGUF file, with a cache in fp32: its
row is judged like the others, and its logits are compared with those of our fp32 form of that file; with `--answers`
also the greedy answers to 20 prompts. It computes F16, BF16 and quantized weights with rounded activations, so only F32 files agree fully.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
CHUNK = 256  # tokens at a time
ANSWER_TOKENS = 64
DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("quick-start", "privacy", "batches", "run", "models", "memory", "chat")  # those with the least jargon
PROMPTS = tuple(
    f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    for question in (
        "What is the capital of France?", "Name three primary colors.", "Why is the sky blue?", "Write a haiku about rain.",
        "What is 17 plus 25?", "Explain photosynthesis to a child.", "Who wrote Romeo and Juliet?", "List four fruits.",
        "How do I boil an egg?", "Translate 'good morning' into Spanish.", "What does a compiler do?", "Tell me a short joke.",
        "Describe the ocean in one sentence.", "What is gravity?", "Give me a recipe for pancakes.", "When did World War II end?",
        "Write a Python function that adds two numbers.", "What are the benefits of reading?", "How far away is the Moon?",
        "Summarize the story of Cinderella.",
    )
)  # fmt: skip
IMPORT = """
import json, sys, time
from pathlib import Path
from lmsupply_cli.importer.plan import open_source, plan_import, run_import

source, precision, block, folder = sys.argv[1:]
Path(folder).mkdir(parents=True)
plan = plan_import(open_source(Path(source)), precision or None, int(block) or None)
began, cpu = time.monotonic(), time.process_time()
run_import(plan, Path(folder), lambda _: None)
taken = time.monotonic() - began, time.process_time() - cpu
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
weights = sum(tensor.size_bytes and __import__("math").prod(tensor.shape) for tensor in plan.source.tensors.values())
size = sum(file.stat().st_size for file in Path(folder).glob("model.onnx*"))
forms = ", ".join(f"{count} {form}" for form, count in plan.forms.items())
print(json.dumps([plan.read_bytes, weights, size, *taken, peak, forms]))
"""


class Import(NamedTuple):
    read_bytes: int
    weights: int
    size_bytes: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    forms: str


class Score(NamedTuple):
    """`kl` in nats per token, `same` a share."""

    kl: float
    same: float
    perplexity: float


def main() -> None:
    options = parsed()
    if options.run:
        run(*options.run)
        return
    with tempfile.TemporaryDirectory() as made:
        work = options.work or Path(made)
        reference = Judge(work, options.reference, options.text, options.tokens) if options.reference else None
        for source in options.sources:
            judge = reference or Judge(work, source, options.text, options.tokens)
            print(f"{source.name}, {len(judge.ids)} tokens; fp32 perplexity {judge.perplexity:.3f}")
            print(f"  {'':<16}{'KL':>9}{'same':>8}{'ppl':>9}{'change':>8}{'MB':>8}{'bits':>7}{'MB/s':>6}{'CPU s':>7}{'peak MB':>9}")  # fmt: skip
            if (source / "genai_config.json").is_file():
                judge.show_folder(source)
                continue
            for form in options.forms.split(","):
                judge.show(source, form)
            if options.llama_cpp:
                show_llama_cpp(work, judge, source)
                if options.answers:
                    show_answers(work, source)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, metavar="SOURCE")
    parser.add_argument("--forms", default="exact,int8,int4", help="a precision, or precision:block")
    parser.add_argument("--reference", type=Path, help="judge by the fp32 form of this source")
    parser.add_argument("--text", type=Path, help="a text file instead of the docs")
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--llama-cpp", action="store_true", help="run llama.cpp on the same file")
    parser.add_argument("--answers", action="store_true", help="compare greedy answers with those of llama.cpp")
    parser.add_argument("--work", type=Path, help="keep the models and logits in this folder, and use them again")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


class Judge:
    """The fp32 form of `source`, and what it says of a text."""

    def __init__(self, work: Path, source: Path, text: Path | None, tokens: int) -> None:
        self.work, self.source = work, source
        self.folder, made = imported(work, source, "fp32")
        self.weights = made.weights
        self.ids = token_ids(self.folder, text.read_text(encoding="utf-8") if text else prose())[:tokens]
        self.logits = logits_of(work, self.folder, self.ids)
        self.perplexity = perplexity(self.logits, self.ids)

    def show(self, source: Path, form: str) -> None:
        folder, made = imported(self.work, source, form)
        self.row(form, self.score(logits_of(self.work, folder, self.ids)), made.size_bytes, made)
        print(f"      {made.forms}")

    def show_folder(self, folder: Path) -> None:
        size = sum(file.stat().st_size for file in folder.glob("model.onnx*"))
        self.row("", self.score(logits_of(self.work, folder, self.ids)), size)

    def score(self, logits: Logits) -> Score:
        kl = same = 0.0
        for rows in chunks(len(self.ids)):
            ours, theirs = (log_softmax(each[rows]) for each in (logits, self.logits))
            kl += float((np.exp(theirs) * (theirs - ours)).sum())
            same += int((ours.argmax(1) == theirs.argmax(1)).sum())
        return Score(kl / len(self.ids), same / len(self.ids), perplexity(logits, self.ids))

    def row(self, name: str, score: Score, size: int, made: Import | None = None) -> None:
        change = score.perplexity / self.perplexity - 1
        bits = size * 8 / self.weights
        line = f"  {name:<16}{score.kl:>9.4f}{score.same:>8.1%}{score.perplexity:>9.3f}{change:>+8.2%}{size / 1e6:>8.1f}{bits:>7.2f}"
        if made:
            line += f"{made.read_bytes / made.seconds / 1e6:>6.0f}{made.cpu_seconds:>7.1f}{made.peak_bytes / 1e6:>9.0f}"
        print(line, flush=True)


def show_llama_cpp(work: Path, judge: Judge, source: Path) -> None:
    folder, made = imported(work, source, "fp32")
    theirs = logits_of(work, source, judge.ids)
    judge.row("llama.cpp", judge.score(theirs), made.read_bytes)
    ours = logits_of(work, folder, judge.ids)
    apart = max(float(np.abs(ours[rows] - theirs[rows]).max()) for rows in chunks(len(judge.ids)))
    print(f"      logits at most {apart:.2g} from those of our fp32 form, whose standard deviation is {ours.std():.2g}")


def show_answers(work: Path, source: Path) -> None:
    folder, _ = imported(work, source, "fp32")
    answers = [json.loads(child(work, "answers", model)) for model in (folder, source)]
    same = sum(left["ids"] == right["ids"] for left, right in zip(*answers, strict=True))
    print(f"      {same} of {len(PROMPTS)} greedy answers of {ANSWER_TOKENS} tokens are the same")
    for prompt, left, right in zip(PROMPTS, *answers, strict=True):
        if left["ids"] != right["ids"]:
            at = next(n for n, pair in enumerate(zip(left["ids"], right["ids"], strict=True)) if pair[0] != pair[1])
            print(
                f"      {prompt[17:45]!r}… differs at {at}, where the two likeliest are {left['leads'][at]:.2g} apart"
            )


def imported(work: Path, source: Path, form: str) -> tuple[Path, Import]:
    """The folder of `source` in a form such as "int4:64"."""
    folder = work / f"{source.name}.{form.replace(':', '-')}"
    note = folder.with_name(f"{folder.name}.json")
    if not note.exists():
        precision, _, block = form.partition(":")
        command = [sys.executable, "-c", IMPORT, str(source), precision, block or "0", str(folder)]
        note.write_text(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout, encoding="utf-8")
    return folder, Import(*json.loads(note.read_text(encoding="utf-8")))


def logits_of(work: Path, model: Path, ids: list[int]) -> Logits:
    """[tokens, vocabulary], mapped."""
    text = json.dumps(ids)
    path = work / f"{model.name}.{zlib.crc32(text.encode()):08x}.npy"
    if not path.exists():
        (work / "ids.json").write_text(text, encoding="utf-8")
        child(work, "logits", model)
        (work / "logits.npy").replace(path)
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def child(work: Path, task: str, model: Path) -> str:
    """What `run` prints."""
    command = [sys.executable, __file__, "--run", task, str(model), str(work)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def run(task: str, name: str, work: str) -> None:
    model: Any = (Ours if Path(name).is_dir() else LlamaCpp)(Path(name))
    if task == "logits":
        ids = json.loads((Path(work) / "ids.json").read_text(encoding="utf-8"))
        np.save(Path(work) / "logits.npy", np.concatenate([model.feed(ids[rows]) for rows in chunks(len(ids))]))
        return
    answers = []
    for prompt in PROMPTS:
        model.restart()
        last = model.feed(model.encode(prompt))[-1]
        given: dict[str, list[Any]] = {"ids": [], "leads": []}
        for _ in range(ANSWER_TOKENS):
            best = np.sort(last)[-2:]
            given["ids"].append(int(last.argmax()))
            given["leads"].append(float(best[1] - best[0]))
            last = model.feed(given["ids"][-1:])[-1]
        answers.append(given)
    print(json.dumps(answers))


class Ours:
    def __init__(self, folder: Path) -> None:
        import onnxruntime_genai

        import lmsupply_cli  # keeps the engine from reporting what it runs

        assert lmsupply_cli
        self.engine, self.folder = onnxruntime_genai, folder
        self.model = onnxruntime_genai.Model(str(folder))
        self.restart()

    def restart(self) -> None:
        params = self.engine.GeneratorParams(self.model)
        params.set_search_options(max_length=4096)
        self.generator = self.engine.Generator(self.model, params)

    def encode(self, text: str) -> list[int]:
        return token_ids(self.folder, text)

    def feed(self, ids: list[int]) -> Logits:
        self.generator.append_tokens(np.array(ids, np.int32))
        return np.array(self.generator.get_output("logits"))[0].astype(np.float32)


class LlamaCpp:
    def __init__(self, path: Path) -> None:
        from llama_cpp import GGML_TYPE_F32, Llama

        self.model = Llama(
            str(path), n_ctx=4096, n_batch=CHUNK, logits_all=True, verbose=False,
            type_k=GGML_TYPE_F32, type_v=GGML_TYPE_F32,
        )  # fmt: skip

    def restart(self) -> None:
        self.model.reset()

    def encode(self, text: str) -> list[int]:
        return self.model.tokenize(text.encode(), add_bos=False, special=True)

    def feed(self, ids: list[int]) -> Logits:
        self.model.eval(ids)
        return self.model.scores[self.model.n_tokens - len(ids) : self.model.n_tokens].copy()


def token_ids(folder: Path, text: str) -> list[int]:
    from tokenizers import Tokenizer

    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return ids


def prose() -> str:
    """The paragraphs of some pages of the docs, without tables, lists and code."""
    text = "\n\n".join((DOCS / f"{page}.md").read_text(encoding="utf-8") for page in PAGES)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return "\n\n".join(paragraph for paragraph in text.split("\n\n") if paragraph.strip()[:1].isalpha())


def chunks(tokens: int) -> Iterator[slice]:
    for start in range(0, tokens, CHUNK):
        yield slice(start, min(start + CHUNK, tokens))


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    values = logits.astype(np.float64)
    values -= values.max(1, keepdims=True)
    result: NDArray[np.float64] = values - np.log(np.exp(values).sum(1, keepdims=True))
    return result


def perplexity(logits: Logits, ids: list[int]) -> float:
    total = 0.0
    for rows in chunks(len(ids) - 1):
        following = np.array(ids[rows.start + 1 : rows.stop + 1])
        total -= float(np.take_along_axis(log_softmax(logits[rows]), following[:, None], 1).sum())
    return math.exp(total / (len(ids) - 1))


if __name__ == "__main__":
    main()
