"""Look at a model folder before the engine does: it is untrusted input, and may be incomplete.

A genai_config.json can name libraries to load and files anywhere; both are refused. What would
make the engine fail in its own words (or worse) is found here and said in one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from lmsupply_cli.engine.patterns import find_patterns
from lmsupply_cli.errors import ModelFilesError, ModelNotFound, UntrustedModelFiles

CONFIG = "genai_config.json"
PROVIDER_NAMES = {"cuda": "cuda", "dml": "dml", "webgpu": "WebGPU"}  # ours → the engine's; it has none for the CPU
_LOADS_CODE = re.compile(r"custom_op|library|shared_lib|plugin|entry_point|\bdll\b", re.IGNORECASE)
_LIBRARY = re.compile(r"\.(so(\.\d+)*|dll|dylib|pyd|py)$", re.IGNORECASE)
_ABSOLUTE = re.compile(r"^([/\\]|[A-Za-z]:[/\\]|file:|~[/\\])")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_AGAIN = "pull the model again, or copy the folder again from where it came"


@dataclass(frozen=True)
class ModelFolder:
    """A folder that may be given to the engine: its parsed config and its tokenizer's added tokens."""

    path: Path
    config: dict[str, Any]
    added_tokens: tuple[dict[str, Any], ...] = ()
    patterns: tuple[str, ...] = ()  # regular expressions by which its tokenizer cuts and changes text

    @property
    def control_strings(self) -> frozenset[str]:
        """Every text that the tokenizer turns into one token, whatever stands around it."""
        return frozenset(row["content"] for row in self.added_tokens)

    @property
    def model(self) -> dict[str, Any]:
        model: dict[str, Any] = self.config["model"]
        return model

    @property
    def decoder(self) -> dict[str, Any]:
        decoder: dict[str, Any] = self.model.get("decoder", {})
        return decoder

    @property
    def provider(self) -> str:
        """The execution provider that the config declares, "cpu" where it declares none."""
        options = self.decoder.get("session_options")
        declared = options.get("provider_options") if isinstance(options, dict) else None
        rows = [row for row in declared if isinstance(row, dict)] if isinstance(declared, list) else []
        return next((str(name).lower() for row in rows for name in row), "cpu")

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return frozenset(token_ids(self.model.get("eos_token_id")))

    @property
    def search(self) -> dict[str, Any]:
        search: dict[str, Any] = self.config.get("search", {})
        return search

    @property
    def graphs(self) -> list[str]:
        """The ONNX files that the config names."""
        return _needed_files(self)

    def read_json(self, name: str) -> dict[str, Any]:
        """Another JSON file of the folder, or {} where it is missing or no JSON object."""
        try:
            data = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def open_folder(path: Path, *, trust: bool = False) -> ModelFolder:
    """Check `path` and read its config. Raises ModelNotFound, ModelFilesError, UntrustedModelFiles."""
    if not path.is_dir():
        raise ModelNotFound(f"no such folder: {path}", hint="lmsupply models lists what there is")
    folder = ModelFolder(path, _read_config(path / CONFIG))
    if not trust:
        _refuse_untrusted(folder)
    for name in _needed_files(folder):
        _check_file(path / name, name)
    tokenizer = _check_json(path / "tokenizer.json", "tokenizer.json")
    return replace(folder, added_tokens=_added_tokens(tokenizer), patterns=find_patterns(tokenizer))


def token_ids(value: Any) -> list[int]:
    """Of a config's entry that is an id or several."""
    return [i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int) and i >= 0]


def _added_tokens(tokenizer: Any) -> tuple[dict[str, Any], ...]:
    rows = tokenizer.get("added_tokens") if isinstance(tokenizer, dict) else None
    complete = [
        r
        for r in rows or []
        if isinstance(r, dict) and isinstance(r.get("id"), int) and isinstance(r.get("content"), str)
    ]
    return tuple(complete)


def _read_config(path: Path) -> dict[str, Any]:
    config = _check_json(path, CONFIG)
    if config is None:
        raise ModelFilesError(
            f"{path.parent} holds no {CONFIG}",
            hint="lmsupply runs folders in ONNX Runtime GenAI format, not GGUF, safetensors or transformers.js",
        )
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("type"), str):
        raise ModelFilesError(f"{path} has no model.type: it is not a GenAI config", hint=_AGAIN)
    for key in ("context_length", "vocab_size"):
        if not isinstance(model.get(key), int) or model[key] < 1:
            raise ModelFilesError(f"{path}: model.{key} is missing or not a positive number", hint=_AGAIN)
    for key, part in (("decoder", model.get("decoder", {})), ("search", config.get("search", {}))):
        if not isinstance(part, dict):
            raise ModelFilesError(f"{path}: {key} is not an object", hint=_AGAIN)
    checked: dict[str, Any] = config
    return checked


def _refuse_untrusted(folder: ModelFolder) -> None:
    hint = "if you trust whoever made this folder: --trust-model-files"
    for place, key, value in _walk(folder.config, ""):
        if _LOADS_CODE.search(key) and value not in ("", None, False, [], {}):
            raise UntrustedModelFiles(f"{CONFIG} wants to load a library: {place} = {value!r}", hint=hint)
        if not isinstance(value, str):
            continue
        if _LIBRARY.search(value):
            raise UntrustedModelFiles(f"{CONFIG} names a library: {place} = {value!r}", hint=hint)
        if _ABSOLUTE.match(value) or ".." in PurePosixPath(value.replace("\\", "/")).parts:
            raise UntrustedModelFiles(f"{CONFIG} names a path outside the folder: {place} = {value!r}", hint=hint)


def _walk(value: Any, place: str, key: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{place}.{name}" if place else str(name)
            if _LOADS_CODE.search(str(name)):
                yield here, str(name), inner
            yield from _walk(inner, here, str(name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _walk(inner, f"{place}[{index}]", key)
    else:
        yield place, key, value


def _needed_files(folder: ModelFolder) -> list[str]:
    """The graphs that the config names. (Their external data the engine checks itself.)"""
    graphs = [part.get("filename") for part in folder.model.values() if isinstance(part, dict)]
    pipeline = folder.decoder.get("pipeline", [])
    for step in pipeline if isinstance(pipeline, list) else []:
        graphs += [part.get("filename") for part in step.values() if isinstance(part, dict)]
    names = [name for name in graphs if isinstance(name, str) and name]
    if not names:
        raise ModelFilesError(f"{folder.path / CONFIG} names no model file", hint=_AGAIN)
    return names


def _check_file(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelFilesError(f"{name} is missing from {path.parent}", hint=_AGAIN) from error
    if head.startswith(_LFS_POINTER):
        raise ModelFilesError(
            f"{path} is a Git LFS pointer, not the file itself",
            hint="run git lfs pull in that folder, or use lmsupply pull",
        )
    if not head:
        raise ModelFilesError(f"{path} is empty", hint=_AGAIN)


def _check_json(path: Path, name: str) -> Any:
    """The parsed file, or None where it is missing. Raises ModelFilesError where it is no JSON."""
    if not path.exists():
        return None
    _check_file(path, name)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ModelFilesError(f"{path} is damaged: it is not text", hint=_AGAIN) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFilesError(f"{path} is damaged: {error}", hint=_AGAIN) from error
