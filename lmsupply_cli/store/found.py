"""Models that other programs keep on this machine, each with a name that lmsupply knows it by.

    ollama:llama3.2:1b                     as `ollama list` names it; `ollama:hf.co/owner/repo:q4_k_m` of another registry
    lmstudio:owner/repo:q4_k_m             the folders below LM Studio's, and the quantization (or the file's name)
    llamacpp:ggml-org_gemma-3-1b-it-Q4_K_M a file in llama.cpp's cache
    hf:owner/repo:q4_k_m                   a GGUF file in the Hugging Face cache
    hf:owner/repo                          safetensors in the Hugging Face cache, with their config.json
    owner/repo:folder, Phi-4-mini-cpu      GenAI folders in the Hugging Face cache, and those of Foundry Local

A colon before any slash is found in no ref of the Hub, no alias and no name of the user's. Dashes stand for spaces.
GGUF files and safetensors are imported; GenAI folders are used in place. What others wrote is foreign data: a manifest
or file that cannot be used is a line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsupply_cli import paths
from lmsupply_cli.errors import FileError
from lmsupply_cli.files import folder_bytes, is_file, listed, read_json, read_text, resolved, size_of
from lmsupply_cli.foreign import plain
from lmsupply_cli.genai_config import CONFIG as GENAI_CONFIG
from lmsupply_cli.hub.sources import MODEL_CONFIG, PARTS, quantization_of
from lmsupply_cli.hub.tree import is_safe_path
from lmsupply_cli.store.source_paths import safetensors_in

if TYPE_CHECKING:
    from lmsupply_cli.store.locate import LocatedModel

OLLAMA, LM_STUDIO, LLAMA_CPP = "Ollama", "LM Studio", "llama.cpp"
HF_CACHE, FOUNDRY = "Hugging Face cache", "Foundry Local"
_REGISTRY, _LIBRARY = "registry.ollama.ai", "library"
_LAYER = "application/vnd.ollama.image."
_BLOB = re.compile(r"sha256:([0-9a-f]{64})")
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_MANIFEST_BYTES = 1_000_000
_MOST = 5000  # files of one program that are looked at
_MAGIC = b"GGUF"
_STEERS = "its name holds characters that cannot be shown"
_SPACES = re.compile(r"\s+")
_GENERATES = "ForCausalLM"  # in the architectures of a config.json: others have no text to generate
_CONFIG_BYTES = 10_000_000


class FoundModel(NamedTuple):
    """`format`: "gguf", "safetensors" or "genai"; `path`: the file (of several parts the first) or the folder."""

    name: str
    tool: str
    format: str
    path: Path
    files: tuple[Path, ...]
    size_bytes: int


class FoundModels(NamedTuple):
    """By program and name; and one line for each model that cannot be used."""

    models: tuple[FoundModel, ...]
    skipped: tuple[str, ...] = ()


def found_models(root: Path) -> FoundModels:
    """The models of other programs; `root`: our own store, which may lie in the Hugging Face cache."""
    found = _scan(_SCANS, root)
    genai = [
        FoundModel(m.ref, HF_CACHE if m.repo else FOUNDRY, "genai", m.path, (), folder_bytes(m.path))
        for m in _genai_models(root)
    ]
    return FoundModels((*found.models, *sorted(genai)), found.skipped)


def find_found(name: str, root: Path | None = None) -> FoundModel | None:
    """The model to import of another program that has this name, in any case; only that program's folders are looked at."""
    wanted = name.lower()
    scans = {prefix: scan for prefix, scan in _SCANS.items() if wanted.startswith(prefix)}
    if wanted.startswith("ollama:") and ":" not in wanted.removeprefix("ollama:"):
        wanted += ":latest"
    return next((model for model in _scan(scans, root).models if model.name.lower() == wanted), None)


def why_not_found(name: str) -> str:
    """The line about a model of this name that cannot be used; "" if there is none."""
    wanted = name.lower()
    scans = {prefix: scan for prefix, scan in _SCANS.items() if wanted.startswith(prefix)}
    return next((line for line in _scan(scans, None).skipped if line.lower().startswith(f"{wanted} ")), "")


def _genai_models(root: Path) -> list[LocatedModel]:
    from lmsupply_cli.store.external import external_models

    return external_models(root)


class _Bad(Exception):
    """Why a model cannot be used."""


_Scan = Callable[[Path | None], Iterator[FoundModel | str]]


def _scan(scans: Mapping[str, _Scan], root: Path | None) -> FoundModels:
    found: dict[str, FoundModel] = {}
    skipped: list[str] = []
    for scan in scans.values():
        for model in scan(root):
            if isinstance(model, str):
                skipped.append(plain(model))
            else:
                found.setdefault(model.name.lower(), model)
    models = _without_spaces(found)
    return FoundModels(tuple(sorted(models, key=lambda m: (m.tool, m.name.lower()))), tuple(skipped))


def _without_spaces(found: Mapping[str, FoundModel]) -> list[FoundModel]:
    """With dashes for spaces, so that a name is one word wherever it is typed or shown, and with a number where another
    model has that name."""
    named = {name: model for name, model in found.items() if not _SPACES.search(name)}
    for spaced in sorted(found.keys() - named):
        base, number = _SPACES.sub("-", found[spaced].name), 1
        while (name := base if number == 1 else f"{base}-{number}").lower() in named:
            number += 1
        named[name.lower()] = found[spaced]._replace(name=name)
    return list(named.values())


def _ollama(_: Path | None) -> Iterator[FoundModel | str]:
    """`manifests/REGISTRY/NAMESPACE/NAME/TAG` is JSON; its layer of the kind `model` is a GGUF file in `blobs`."""
    for home in paths.ollama_models():
        manifests = [m for folder in ("manifests", "manifests-v2") for m in listed(home / folder, "*/*/*/*")]
        for manifest in [m for m in manifests if is_file(m) and not m.name.startswith(".")][:_MOST]:
            registry, namespace, name, tag = manifest.parts[-4:]
            short = name if (registry, namespace) == (_REGISTRY, _LIBRARY) else f"{namespace}/{name}"
            short = short if registry == _REGISTRY else f"{registry}/{short}"
            try:
                blob = _model_blob(manifest, home)
                yield _checked(f"ollama:{short}:{tag}", OLLAMA, (blob,))
            except (_Bad, FileError) as error:
                yield f"ollama:{short}:{tag} cannot be used: {error}"


def _model_blob(manifest: Path, home: Path) -> Path:
    """Raises _Bad, FileError."""
    value = read_json(manifest, limit_bytes=_MANIFEST_BYTES)
    layers = value.get("layers") if isinstance(value, dict) else None
    if not isinstance(layers, list):
        raise _Bad("its manifest has no layers")
    kinds: dict[str, list[Any]] = {}
    for layer in layers:
        kind = layer.get("mediaType") if isinstance(layer, dict) else None
        if isinstance(kind, str) and kind.startswith(_LAYER):
            kinds.setdefault(kind.removeprefix(_LAYER), []).append(layer)
    if kinds.get("adapter"):
        raise _Bad("it has an adapter, which lmsupply does not support")
    models = kinds.get("model", [])
    if len(models) != 1:
        raise _Bad(f"its manifest names {len(models)} GGUF files")
    digest, size = models[0].get("digest"), models[0].get("size")
    match = _BLOB.fullmatch(digest) if isinstance(digest, str) else None
    if not match:
        raise _Bad("its manifest names no digest")
    blob = home / "blobs" / f"sha256-{match[1]}"
    if isinstance(size, int) and size_of(blob) not in (size, -1):
        raise _Bad(f"{blob.name} has {size_of(blob):,} bytes instead of {size:,}")
    return blob


def _lm_studio(_: Path | None) -> Iterator[FoundModel | str]:
    """`OWNER/REPO/*.gguf` below a folder of models."""
    for home in dict.fromkeys(resolved(folder) for folder in paths.lm_studio_models()):
        for repo, files in _by_folder(home, "*/*/*.gguf").items():
            yield from _named(f"lmstudio:{repo.parent.name}/{repo.name}", LM_STUDIO, files)


def _llama_cpp(_: Path | None) -> Iterator[FoundModel | str]:
    for files in _by_folder(paths.llama_cpp_cache(), "*.gguf").values():
        for stem, parts in _grouped(files).items():
            yield from _tried(f"llamacpp:{stem}", LLAMA_CPP, parts)


def _hf_cache(root: Path | None) -> Iterator[FoundModel | str]:
    """`models--OWNER--NAME/snapshots/COMMIT/**/*.gguf`, and safetensors right below the commit; of several commits that
    of `main`, else the newest."""
    cache = paths.hugging_face_cache()
    ours = _own_files(root) if root and resolved(root) == resolved(cache) else frozenset()
    for home in listed(cache, "models--*"):
        repo = home.name.removeprefix("models--").replace("--", "/", 1)
        if not is_safe_path(repo):
            continue
        main = _main_of(home)
        for snapshot in sorted(listed(home / "snapshots"), key=lambda s: (s.name == main, _time_of(s)), reverse=True):
            files = [file for file in listed(snapshot, "**/*.gguf")[:_MOST] if file not in ours]
            yield from _named(f"hf:{repo}", HF_CACHE, files)
            yield from _safetensors(f"hf:{repo}", snapshot, ours)


def _safetensors(name: str, folder: Path, ours: Collection[Path]) -> Iterator[FoundModel | str]:
    """The text model in a folder that transformers filled. Of embeddings, images and the like nothing is said."""
    files, lacking = safetensors_in(folder)
    if not files or files[0] in ours or is_file(folder / GENAI_CONFIG) or not _generates(folder / MODEL_CONFIG):
        return
    if lacking:
        yield f"{name} cannot be used: {lacking} of its parts are missing"
    elif plain(name, 400) != name:
        yield f"{name} cannot be used: {_STEERS}"
    else:
        yield FoundModel(name, HF_CACHE, "safetensors", folder, files, sum(size_of(file) for file in files))


def _generates(config: Path) -> bool:
    try:
        value = read_json(config, limit_bytes=_CONFIG_BYTES)
    except FileError:
        return False
    kinds = value.get("architectures") if isinstance(value, dict) else None
    return isinstance(kinds, list) and any(isinstance(kind, str) and kind.endswith(_GENERATES) for kind in kinds)


def _main_of(home: Path) -> str:
    try:
        return read_text(home / "refs" / "main", limit_bytes=1000).strip()
    except FileError:
        return ""


def _own_files(root: Path) -> frozenset[Path]:
    """Sources that our own imports keep, or that are on their way."""
    from lmsupply_cli.store.manifest import read_manifests, read_unfinished

    return frozenset(path for m in (*read_manifests(root), *read_unfinished(root)) for path in m.paths(root))


_SCANS: Mapping[str, _Scan] = {"ollama:": _ollama, "lmstudio:": _lm_studio, "llamacpp:": _llama_cpp, "hf:": _hf_cache}


def _by_folder(home: Path, pattern: str) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for file in listed(home, pattern)[:_MOST]:
        found.setdefault(file.parent, []).append(file)
    return found


def _grouped(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The parts of each model, by the name that they share."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        if not _NO_MODEL.search(file.name):
            groups.setdefault(PARTS.sub("", file.stem), []).append(file)
    return groups


def _named(start: str, tool: str, files: Sequence[Path]) -> Iterator[FoundModel | str]:
    """By quantization, or by the file's name where that does not tell them apart."""
    groups = _grouped(files)
    kinds = {stem: quantization_of(stem).lower() for stem in groups}
    counts = Counter(kinds.values())
    for stem, parts in groups.items():
        kind = kinds[stem]
        yield from _tried(f"{start}:{kind if kind and counts[kind] == 1 else stem}", tool, parts)


def _tried(name: str, tool: str, files: Sequence[Path]) -> Iterator[FoundModel | str]:
    try:
        yield _checked(name, tool, _complete(files))
    except (_Bad, FileError) as error:
        yield f"{name} cannot be used: {error}"


def _complete(files: Sequence[Path]) -> tuple[Path, ...]:
    """Raises _Bad if a part is missing."""
    parts = [PARTS.search(file.stem) for file in files]
    count = next((int(part["count"]) for part in parts if part), 1)
    if len(files) != count:
        raise _Bad(f"{len(files)} of its {count} parts are here")
    return tuple(files)


def _checked(name: str, tool: str, files: tuple[Path, ...]) -> FoundModel:
    """Raises _Bad for what is no GGUF file."""
    for file in files:
        if size_of(file) < 0:
            raise _Bad(f"{file.name} is missing")
        try:
            with file.open("rb") as opened:
                right = opened.read(len(_MAGIC)) == _MAGIC
        except OSError as error:
            raise _Bad(f"{file.name} cannot be read") from error
        if not right:
            raise _Bad(f"{file.name} is no GGUF file")
    if plain(name, 400) != name:
        raise _Bad(_STEERS)
    return FoundModel(name, tool, "gguf", files[0], files, sum(size_of(file) for file in files))


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
