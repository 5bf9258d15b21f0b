"""Which folder of a repository suits: a pure choice with its reasons.

A variant is a folder that holds genai_config.json. Folder names are read by tokens, never by
substrings ("npu" is in "input").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lmsupply_cli.errors import ModelNotFound, UsageError
from lmsupply_cli.hub.tree import RepoTree

_DEVICES = {
    "cpu": "cpu", "mobile": "cpu", "cuda": "cuda", "gpu": "gpu", "directml": "dml", "dml": "dml", "webgpu": "webgpu",
    "npu": "npu", "qnn": "npu", "ryzenai": "npu", "web": "webgpu",
}  # fmt: skip
_PRECISIONS = ("int4", "int8", "fp16", "bf16", "fp32")
_RUNS_ON: Mapping[str, Sequence[str]] = {
    "cpu": ("cpu", ""),
    "cuda": ("cuda", "gpu", "cpu", ""),
    "dml": ("dml", "gpu", "cpu", ""),
    "webgpu": ("webgpu", "gpu", "cpu", ""),
}
_SKIPPED = re.compile(r"\.azDownload|^\.gitattributes$|\.md$", re.IGNORECASE)
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True)
class Variant:
    """`folder` is "" for the root; `files` are paths in the repo; `device` and `precision` as far as names tell."""

    folder: str
    files: tuple[str, ...]
    size_bytes: int
    device: str
    precision: str
    tokens: frozenset[str]


@dataclass(frozen=True, slots=True)
class Resolution:
    chosen: Variant
    reasons: tuple[str, ...]
    rejected: tuple[tuple[Variant, str], ...]


def find_variants(tree: RepoTree) -> list[Variant]:
    """Every variant of the repo. Raises ModelNotFound where there is none."""
    folders = sorted(str(PurePosixPath(p).parent) for p in tree.files if PurePosixPath(p).name == "genai_config.json")
    if not folders:
        kind = (
            "transformers.js or plain ONNX"
            if any(p.endswith(".onnx") for p in tree.files)
            else "GGUF or safetensors, perhaps"
        )
        raise ModelNotFound(
            f"{tree.repo} holds no model in ONNX GenAI format (no genai_config.json; {kind})",
            hint="lmsupply models lists repos that do",
        )
    return [_variant(tree, "" if folder == "." else folder) for folder in folders]


def choose_variant(
    variants: Sequence[Variant], *, provider: str, precision: str = "auto", wanted: str | None = None
) -> Resolution:
    """The variant for `provider`; `wanted` is a part of a folder's name that only one has. Raises ModelNotFound."""
    if wanted:
        named = [v for v in variants if v.folder.lower() == wanted.lower()]
        named = named or [v for v in variants if wanted.lower() in v.folder.lower()]
        if len(named) != 1:
            names = ", ".join(v.folder or "(root)" for v in (named or variants))
            raise UsageError(f"{len(named) or 'no'} variants match {wanted!r}", hint=f"variants: {names}")
        others = tuple((v, "another one was asked for") for v in variants if v != named[0])
        return Resolution(named[0], ("you asked for it",), others)
    _one_model(variants)
    runs_on = _RUNS_ON[provider]
    fitting = [v for v in variants if v.device in runs_on]
    if not fitting:
        names = ", ".join(v.folder or "(root)" for v in variants)
        raise ModelNotFound(f"no variant runs on {provider}", hint=f"name one of: {names}")

    def rank(variant: Variant) -> tuple[object, ...]:
        order = [precision, *(p for p in _PRECISIONS if p != precision)]
        return (
            runs_on.index(variant.device),
            order.index(variant.precision) if variant.precision in order else len(order),
            not {"acc", "level", "4"} <= variant.tokens,
            "rtn" in variant.tokens,
            variant.size_bytes,
            variant.folder,
        )

    best = min(fitting, key=rank)
    reasons = [f"made for {best.device}" if best.device else f"its name excludes no provider; {provider} runs it"]
    reasons.append(f"precision {best.precision}" if best.precision else "precision unknown")
    rejected = [(v, f"made for {v.device}" if v not in fitting else "ranks behind") for v in variants if v != best]
    return Resolution(best, tuple(reasons), tuple(rejected))


def _one_model(variants: Sequence[Variant]) -> None:
    """Several models in one repo are told apart by the path before device and precision; never guess."""
    models = {_model_part(v.folder) for v in variants}
    if len(models) > 1:
        names = ", ".join(sorted(v.folder for v in variants))
        raise UsageError("the repo holds several models", hint=f"name one as owner/repo:folder, of {names}")


def _model_part(folder: str) -> str:
    parts = PurePosixPath(folder).parts
    kept = [p for p in parts if not _tokens(p) & (set(_DEVICES) | set(_PRECISIONS) | {"onnx", "onnxruntime"})]
    return "/".join(kept)


def _variant(tree: RepoTree, folder: str) -> Variant:
    own = [p for p in tree.files if _parent(p) == folder and not _SKIPPED.search(PurePosixPath(p).name)]
    names = {PurePosixPath(p).name for p in own}
    if "tokenizer.json" not in names:
        for above in [*map(str, PurePosixPath(folder).parents)] if folder else []:
            found = [
                p
                for p in tree.files
                if _parent(p) == ("" if above == "." else above) and PurePosixPath(p).name in _TOKENIZER
            ]
            if found:
                own += found
                break
    tokens = _tokens(folder)
    devices = [device for token, device in _DEVICES.items() if token in tokens]
    device = next((d for d in ("npu", "webgpu", "cuda", "dml", "gpu", "cpu") if d in devices), "")
    precision = next((p for p in _PRECISIONS if p in tokens), "")
    return Variant(folder, tuple(sorted(own)), sum(tree.files[p] for p in own), device, precision, tokens)


def _parent(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def _tokens(folder: str) -> frozenset[str]:
    return frozenset(re.split(r"[/\-_. ]+", folder.lower())) - {""}
