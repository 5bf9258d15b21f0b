"""The variants of a repository: the folders that hold genai_config.json.

What a folder's config declares outranks its name. Names are read by tokens, never by
substrings ("npu" is in "input").
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from lmsupply_cli.errors import ModelNotFound
from lmsupply_cli.hub.tree import RepoFile, RepoTree

CONFIG = "genai_config.json"
PRECISIONS = ("int4", "int8", "fp16", "bf16", "fp32")
DEVICES = {
    "cpu": "cpu", "mobile": "cpu", "cuda": "cuda", "gpu": "gpu", "directml": "dml", "dml": "dml", "webgpu": "webgpu",
    "web": "webgpu", "npu": "npu", "qnn": "npu", "ryzenai": "npu", "openvino": "npu", "vitisai": "npu", "trtrtx": "trt",
}  # fmt: skip
_DECLARED = {
    "cuda": "cuda", "dml": "dml", "webgpu": "webgpu", "qnn": "npu", "openvino": "npu", "ryzenai": "npu", "vitisai": "npu",
    "nvtensorrtrtx": "trt",
}  # fmt: skip
_SKIPPED = re.compile(r"\.azDownload|^\.gitattributes$|^\.gitignore$|\.md$", re.IGNORECASE)
LICENCE_FILE = re.compile(r"^(LICEN[CS]E|NOTICE|USE_POLICY)(\.(md|txt))?$", re.IGNORECASE)
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """`folder` is "" for the root. `device` and `precision` as far as config and names tell, else ""."""

    folder: str
    files: tuple[RepoFile, ...]
    device: str
    declared: bool
    precision: str
    tokens: frozenset[str]
    config: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def name(self) -> str:
        return self.folder or "(root)"


def find_variants(tree: RepoTree) -> list[Variant]:
    """Every variant of the repo, by folder. Raises ModelNotFound where there is none."""
    folders = sorted(_parent(path) for path in tree.files if PurePosixPath(path).name == CONFIG)
    if not folders:
        raise ModelNotFound(
            f"{tree.repo} holds no model in ONNX GenAI format: {what_it_is(tree)}",
            hint="lmsupply models lists repos that do",
        )
    return [_variant(tree, folder) for folder in folders]


def what_it_is(tree: RepoTree) -> str:
    """What a repo without a variant holds instead."""
    names = [path.lower() for path in tree.files]
    if any(re.search(r"(^|/)onnx/.*\.onnx$", name) for name in names):
        return "it is in transformers.js layout (onnx/model*.onnx without genai_config.json)"
    for ending, kind in (
        (".onnx", "plain ONNX without genai_config.json"),
        (".gguf", "GGUF"),
        (".safetensors", "safetensors weights"),
    ):
        if any(name.endswith(ending) for name in names):
            return f"it is {kind}"
    return "no genai_config.json and no weights"


def _variant(tree: RepoTree, folder: str) -> Variant:
    config = _config(tree.configs.get(f"{folder}/{CONFIG}".lstrip("/"), ""))
    own = {path: file for path, file in tree.files.items() if _parent(path) == folder and not _skipped(path)}
    for name in named_files(config):
        path = f"{folder}/{name}".lstrip("/")
        for beside in (path, f"{path}.data", f"{path}_data"):
            if file := tree.file(beside):
                own[beside] = file
    if not any(PurePosixPath(path).name == "tokenizer.json" for path in own):
        own |= _tokenizer_above(tree, folder)
    own |= {path: file for path, file in tree.files.items() if LICENCE_FILE.search(path)}  # it travels with the weights
    tokens = tokens_of(folder)
    declared = _declared_device(config)
    devices = [device for token, device in DEVICES.items() if token in tokens]
    by_name = next((d for d in ("npu", "trt", "webgpu", "cuda", "dml", "gpu", "cpu") if d in devices), "")
    precision = next((p for p in PRECISIONS if p in tokens), "")
    files = tuple(own[path] for path in sorted(own))
    return Variant(folder, files, declared or by_name, bool(declared), precision, tokens, config)


def named_files(config: dict[str, Any]) -> list[str]:
    """The graphs that a genai_config names."""
    model = config.get("model")
    parts = list(model.values()) if isinstance(model, dict) else []
    pipeline = [
        step for part in parts if isinstance(part, dict) for step in part.get("pipeline", []) if isinstance(step, dict)
    ]
    parts += [part for step in pipeline for part in step.values()]
    names = [part.get("filename") for part in parts if isinstance(part, dict)]
    return [name for name in names if isinstance(name, str) and name]


def tokens_of(folder: str) -> frozenset[str]:
    return frozenset(re.split(r"[/\-_. ]+", folder.lower())) - {""}


def _tokenizer_above(tree: RepoTree, folder: str) -> dict[str, RepoFile]:
    """The tokenizer files of the nearest parent that has them."""
    for above in PurePosixPath(folder).parents if folder else ():
        here = "" if str(above) == "." else str(above)
        found = {p: f for p, f in tree.files.items() if _parent(p) == here and PurePosixPath(p).name in _TOKENIZER}
        if any(PurePosixPath(path).name == "tokenizer.json" for path in found):
            return found
    return {}


def _declared_device(config: dict[str, Any]) -> str:
    try:
        options = config["model"]["decoder"]["session_options"]["provider_options"]
        names = [str(name).lower() for row in options for name in row]
    except (KeyError, TypeError):
        return ""
    return next((_DECLARED[name] for name in names if name in _DECLARED), "")


def _config(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _skipped(path: str) -> bool:
    return bool(_SKIPPED.search(PurePosixPath(path).name))


def _parent(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent
