"""The tokenizer and the chat templates in the metadata of a GGUF file.

The keys are those of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer; what a file leaves out is as
llama.cpp takes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.gguf_file import GgufFile
from lmsupply_cli.importer.source import TokenizerFacts
from lmsupply_cli.importer.vocabulary import Vocabulary, checked, pre_tokenizer, write_vocabulary

_GGML = "tokenizer.ggml."
_TEMPLATE = "tokenizer.chat_template"
_NO_ID = (0xFFFFFFFF, -1)  # both stand for none
_PIECES_WITH_MERGES = ("gemma4", "sarvam-moe")
_OTHER_RULE = (
    "the file does not say by which rules its tokenizer cuts text; the general ones are used, and some words may become"
    " other tokens than the model was trained on"
)


def write_tokenizer(file: GgufFile, folder: Path) -> TokenizerFacts:
    """Write tokenizer.json and tokenizer_config.json, the chat template included. Raises ModelFilesError, FileError."""
    settings: dict[str, Any] = {}
    if template := read_template(file):
        settings["chat_template"] = template
    return write_vocabulary(read_vocabulary(file), folder, settings)


def read_vocabulary(file: GgufFile) -> Vocabulary:
    """Raises ModelFilesError."""
    name, model = str(file.path), file.text(f"{_GGML}model")
    pre = file.text(f"{_GGML}pre", "")
    common: dict[str, Any] = {
        "name": name,
        "tokens": file.texts(f"{_GGML}tokens"),
        "kinds": file.numbers(f"{_GGML}token_type").tolist(),
        "bos_id": _token(file, "bos"),
        "eos_id": _token(file, "eos"),
        "unk_id": _token(file, "unknown"),
        "pad_id": _token(file, "padding"),
        "end_ids": frozenset(token for kind in ("eot", "eom") if (token := _token(file, kind)) is not None),
        "add_eos": file.flag(f"{_GGML}add_eos_token", False),
    }
    if model == "llama":
        return _scored(file, common)
    if model == "gemma4" or (model == "gpt2" and pre in _PIECES_WITH_MERGES):
        return _merged(file, common)
    if model != "gpt2":
        raise ModelFilesError(
            f"{name} has a tokenizer of the kind {plain(model)}, which is not supported",
            hint="kinds that are supported: gpt2 (byte-level BPE), llama (SentencePiece)",
        )
    rule = pre_tokenizer(pre, name)
    return checked(
        Vocabulary(
            form="bytes",
            pre=rule,
            merges=file.texts(f"{_GGML}merges"),
            add_bos=file.flag(f"{_GGML}add_bos_token", rule.adds_bos),
            notes=() if pre else (_OTHER_RULE,),
            **common,
        )
    )


def _scored(file: GgufFile, common: dict[str, Any]) -> Vocabulary:
    """SentencePiece with scores. Its special tokens have ids by default."""
    count = len(common["tokens"])
    for name, token in (("unk_id", 0), ("bos_id", 1), ("eos_id", 2)):
        key = f"{_GGML}{'unknown' if name == 'unk_id' else name[:3]}_token_id"
        if key not in file and token < count:
            common[name] = token
    prefix = "each" if file.flag(f"{_GGML}add_space_prefix", True) else ""
    if prefix and "[INST]" in common["tokens"]:
        prefix = "first"  # Mistral, from v3 on: no space after a control token, unlike in llama.cpp
    return checked(
        Vocabulary(
            form="pieces",
            scores=file.numbers(f"{_GGML}scores").tolist(),
            prefix=prefix,  # type: ignore[arg-type]
            add_bos=file.flag(f"{_GGML}add_bos_token", True),
            **common,
        )
    )


def _merged(file: GgufFile, common: dict[str, Any]) -> Vocabulary:
    """Pieces as in SentencePiece, merges as in BPE."""
    return checked(
        Vocabulary(
            form="merged pieces",
            merges=file.texts(f"{_GGML}merges"),
            add_bos=file.flag(f"{_GGML}add_bos_token", True),
            **common,
        )
    )


def _token(file: GgufFile, name: str) -> int | None:
    key = f"{_GGML}{name}_token_id"
    if key not in file or file.metadata[key] in _NO_ID:
        return None
    return file.count(key)


def read_template(file: GgufFile) -> str:
    """The chat template; of several the one without a name, else the first. "" where there is none."""
    if default := file.text(_TEMPLATE, ""):
        return default
    named = (key for key in file.metadata if key.startswith(f"{_TEMPLATE}."))
    return next((file.text(key) for key in named), "")
