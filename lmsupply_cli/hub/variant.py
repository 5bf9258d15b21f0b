"""The variants of a repository: the folders that hold genai_config.json.

What a folder's config declares outranks its name. Names are read by tokens, never by
substrings ("npu" is in "input").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from lmsupply_cli.errors import ModelNotFound
from lmsupply_cli.genai_config import (
    CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    declared_provider,
    graph_names,
    named_files,
    parse_config,
)
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.providers import PRECISIONS, device_declared, device_order, folder_devices

DEVICES = folder_devices()  # word in a folder's name → device
_SMALL = re.compile(r"\.(json|jinja|txt|ya?ml)$", re.IGNORECASE)
_SMALL_BYTES = 2_000_000
_NO_TEXT = re.compile(r"\.index\.json$|^requirements.*\.txt$|^quant_strategy\.json$", re.IGNORECASE)
LICENSE_FILE = re.compile(r"^(LICEN[CS]E|NOTICE|USE_POLICY)(\.(md|txt))?$", re.IGNORECASE)
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """`folder` is "" for the root. `device` and `precision` as far as config and names tell, else ""; of a variant in
    the root the repo's name tells. `declared`: the provider that the config names; `graphs`: paths in the repo."""

    folder: str
    files: tuple[RepoFile, ...]
    device: str
    declared: str
    precision: str
    tokens: frozenset[str]
    config: dict[str, Any] = field(default_factory=dict, compare=False)
    graphs: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def name(self) -> str:
        return self.folder or "(root)"


def find_variants(tree: RepoTree) -> list[Variant]:
    """Every variant of the repo, by folder. Raises ModelNotFound if there is none."""
    folders = sorted(_parent(path) for path in tree.files if PurePosixPath(path).name == CONFIG)
    if not folders:
        raise ModelNotFound(
            f"{tree.repo} contains no model in ONNX GenAI format: {what_it_is(tree)}",
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
    config = parse_config(tree.configs.get(_join(folder, CONFIG), ""))
    graphs = tuple(_join(folder, name) for name in graph_names(config))
    files = {path: file for path, file in tree.files.items() if _is_needed(path, file, folder)}
    for name in named_files(config):
        path = _join(folder, name)
        tree.file(path)  # raises for one that may not be written
        files |= {found: tree.files[found] for found in _with_data(tree, path)}
    files |= _tokenizer_above(tree, folder)
    files |= {
        path: file for path, file in tree.files.items() if LICENSE_FILE.search(path)
    }  # it travels with the weights
    by_name = named_variant(tree.repo, folder, [files[path] for path in sorted(files)])
    declared = declared_provider(config)
    device = device_declared(declared) or by_name.device
    return replace(by_name, device=device, declared=declared, config=config, graphs=graphs)


def named_variant(repo: str, folder: str, files: Iterable[RepoFile]) -> Variant:
    """A variant, judged by its names."""
    tokens = tokens_of(folder)
    named = tokens or tokens_of(repo.rpartition("/")[2])
    devices = {device for token, device in DEVICES.items() if token in named}
    device = next((device for device in device_order() if device in devices), "")
    precision = next((p for p in PRECISIONS if p in named), "")
    return Variant(folder, tuple(files), device, "", precision, tokens)


def _is_needed(path: str, file: RepoFile, folder: str) -> bool:
    """Of what lies in the folder itself: the config, the tokenizer, small texts, the license."""
    name = PurePosixPath(path).name
    if _parent(path) != folder:
        return False
    if name in (CONFIG, *TOKENIZER_FILES) or LICENSE_FILE.search(name):
        return True
    return bool(_SMALL.search(name)) and not _NO_TEXT.search(name) and file.size_bytes <= _SMALL_BYTES


def _with_data(tree: RepoTree, path: str) -> list[str]:
    """A file and what by its name holds its weights; the rest is known only when the graph is read."""
    data = re.compile(re.escape(path) + r"([._]data(_\d+)?)?")
    folder = _parent(path)
    return [known for known in tree.files if _parent(known) == folder and data.fullmatch(known)]


def tokens_of(folder: str) -> frozenset[str]:
    return frozenset(re.split(r"[/\-_. ]+", folder.lower())) - {""}


def _tokenizer_above(tree: RepoTree, folder: str) -> dict[str, RepoFile]:
    """What the tokenizer lacks in the folder, from the nearest parent that has it: the engine looks beside the config
    only."""
    here = {name for name in TOKENIZER_FILES if _join(folder, name) in tree.files}
    lacking, taken = {TOKENIZER, TOKENIZER_CONFIG} - here, {}
    for above in PurePosixPath(folder).parents if folder else ():
        found = {name: path for name in TOKENIZER_FILES if (path := _join(str(above), name)) in tree.files}
        if not lacking & set(found):
            continue
        for name in set(found) - here:
            taken[found[name]] = replace(tree.files[found[name]], place=_join(folder, name))
        here |= set(found)
        lacking -= here
    return taken


def _join(folder: str, name: str) -> str:
    if not folder or folder == ".":
        return name
    if "/" not in name and not name.startswith("."):
        return f"{folder}/{name}"
    return PurePosixPath(folder, name).as_posix()


def _parent(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent
