"""Local files that a model is imported from, and what is known of their contents without reading them again."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from lmsupply_cli.addresses import is_repo
from lmsupply_cli.errors import FileError, LmsupplyError, ModelNotFound, UsageError
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.files import (
    absolute,
    expanded,
    is_file,
    is_folder,
    listed,
    our_io_error,
    read_json,
    size_of,
    write_json,
)
from lmsupply_cli.foreign import UNPRINTABLE
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.hub.tree import is_digest
from lmsupply_cli.store.digest import ReadProgress, digest_of
from lmsupply_cli.store.layout import digests_path, inside
from lmsupply_cli.store.lock import records_lock
from lmsupply_cli.store.manifest import SourceFile, read_manifests

_FOUND = re.compile(r"(ollama|lmstudio|llamacpp|hf):\S+", re.IGNORECASE)
_GGUF = ".gguf"
_MAGIC = b"GGUF"
_MOST_NAMED = 8  # files in one hint
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_CONFIG = "config.json"
_MOST_KNOWN = 1000  # digests that are remembered
_CACHE_BYTES = 4_000_000
KnownDigests = dict[str, tuple[str, int, int]]  # path → (digest, size, time of change)


class SourcePath(NamedTuple):
    """A local model to import. `path`: the GGUF file (of several parts the first) or the folder of safetensors; `name`: the
    ref that it gets by default; `found`: its name as a model of another program, "" if it is none."""

    path: Path
    format: str
    files: tuple[Path, ...]
    name: str
    found: str = ""


def source_at(name: str | Path) -> SourcePath | None:
    """The model to import that `name` leads to: a GGUF file, a folder with one or with safetensors (without
    genai_config.json), or a model of another program by its name in `store.found`. None for anything else.

    Raises UsageError for a folder with several models, ModelNotFound for one that is incomplete, FileError.
    """
    text = os.fspath(name)
    if isinstance(name, str) and is_found_name(text):
        from lmsupply_cli.store.found import find_found

        found = find_found(text)
        return SourcePath(found.path, found.format, found.files, found.name, found.name) if found else None
    path, is_path = expanded(text), isinstance(name, Path) or _is_path_like(text)
    if is_file(path) and (path.suffix.lower() == _GGUF or (is_path and _is_gguf(path))):
        return _gguf_at(absolute(path))
    if is_path and is_folder(path) and not is_file(path / CONFIG):
        return _folder_at(absolute(path), is_sure=isinstance(name, Path) or not is_repo(text))
    return None


def is_source(name: str) -> bool:
    """Does `name` lead to a model to import, even an incomplete one?"""
    try:
        return source_at(name) is not None
    except LmsupplyError:
        return True


def is_found_name(name: str) -> bool:
    """Has it the form of the names that models of other programs get? Those to import are meant, not GenAI folders."""
    return bool(_FOUND.fullmatch(name))


def as_place(name: str) -> str | Path:
    """`name` where it must lead to something on this machine: a path, unless it has another form too."""
    return name if is_found_name(name) or is_repo(name) else Path(name)


def no_source(name: str) -> ModelNotFound | None:
    """The error for a name that leads to no model to import though it can mean nothing else: a file that is not there, a
    file of safetensors, a model that another program does not have. None for any other."""
    if is_found_name(name):
        from lmsupply_cli.store.found import why_not_found

        hint = "lmsupply models --found lists the models of other programs"
        return ModelNotFound(why_not_found(name) or f"there is no {name} on this machine", hint=hint)
    if ":" in name[2:] and not _is_sure_path(name):  # owner/repo:file.gguf
        return None
    path = expanded(name)
    if path.suffix.lower() == ".safetensors" and is_file(path):
        return ModelNotFound(f"{name} is a part of a model", hint=f"name its folder: {path.parent}")
    if path.suffix.lower() == _GGUF and not is_file(path) and not is_folder(path):
        files = {file.stem: file for file in listed(path.parent) if file.suffix.lower() == _GGUF}
        near = get_close_matches(path.stem, files, n=1)
        return ModelNotFound(
            f"no such file: {name}", hint=f"did you mean {files[near[0]]}?" if near else "check the path"
        )
    return None


def plain_name(text: str) -> str:
    """A ref made of any text: in lower case, with dashes for what a name may not contain."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "model"


def _is_gguf(path: Path) -> bool:
    """By its first bytes: the blobs of Ollama have no extension."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _is_path_like(text: str) -> bool:
    return "/" in text or "\\" in text or _is_sure_path(text)


def _is_sure_path(text: str) -> bool:
    """Not the name of a repo either."""
    return text.startswith((".", "~", "/", "\\"))


def _gguf_at(path: Path) -> SourcePath:
    """With all parts, if the file is one of several. Raises ModelNotFound if one is missing."""
    from lmsupply_cli.hub.sources import PARTS

    stem = path.stem
    if not (parts := PARTS.search(stem)):
        return SourcePath(path, "gguf", (path,), plain_name(stem))
    base, count = PARTS.sub("", stem), int(parts["count"])
    present = {file.name.lower(): file for file in listed(path.parent) if file.suffix.lower() == ".gguf"}
    names = (f"{base}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))
    files = []
    for name in names:  # a count that lies ends at the first part that is missing
        if name.lower() not in present:
            raise ModelNotFound(f"{path.parent / name} is missing: {path.name} is one of {count:,} parts", hint=_PARTS)
        files.append(present[name.lower()])
    if not files:
        raise ModelNotFound(f"{path} says that it is one of 0 parts", hint=_PARTS)
    return SourcePath(files[0], "gguf", tuple(files), plain_name(base))


_PARTS = "put all parts of the model into one folder"


def _folder_at(folder: Path, *, is_sure: bool) -> SourcePath | None:
    """`is_sure`: the name can mean nothing but this folder, so what it lacks is said."""
    from lmsupply_cli.hub.sources import PARTS

    names = [file.name for file in listed(folder) if is_file(file)]
    ggufs = [name for name in names if name.lower().endswith(".gguf") and not _NO_MODEL.search(name)]
    if ggufs:
        first = {PARTS.sub("", name[: -len(".gguf")]): name for name in reversed(ggufs)}
        if len(first) > 1:
            named = sorted(first.values())
            more = f" … ({len(named):,} files)" if len(named) > _MOST_NAMED else ""
            raise UsageError(
                f"{folder} holds several models", hint="name one file: " + ", ".join(named[:_MOST_NAMED]) + more
            )
        return _gguf_at(folder / ggufs[0])
    weights, lacking = safetensors_in(folder)
    if weights and not lacking:
        return SourcePath(folder, "safetensors", weights, plain_name(folder.name))
    if is_sure and (reason := _reason_against(names, lacking)):
        raise ModelNotFound(f"{folder} cannot be imported: {reason}", hint=_NEEDED)
    return None


def safetensors_in(folder: Path) -> tuple[tuple[Path, ...], int]:
    """(the files of the model in a folder of safetensors with their config.json, none where there is no such model; how
    many parts of its weights are missing)."""
    from lmsupply_cli.hub.sources import CONFIG_FILES, INDEX, weight_files

    names = [file.name for file in listed(folder) if is_file(file)]
    weights, lacking = weight_files(names)
    if not weights or _CONFIG not in names:
        return (), lacking
    index = [name for name in names if name.endswith(INDEX) and name.removesuffix(INDEX) in weights[0]]
    wanted = dict.fromkeys([*weights, *index, *(name for name in CONFIG_FILES if name in names)])
    return tuple(folder / name for name in wanted), lacking


_NEEDED = f"a folder to import holds a GGUF file, or safetensors with their {_CONFIG}"


def _reason_against(names: Sequence[str], lacking: int) -> str:
    """Why the files of a folder are no model to import; "" for what does not look like one at all."""
    from lmsupply_cli.hub.sources import weight_files

    if lacking:
        return f"{lacking} of its parts are missing"
    if weight_files(names)[0]:
        return f"it has no {_CONFIG}"
    if found := [name for name in names if name.lower().endswith(".safetensors")]:
        shown = ", ".join(found[:_MOST_NAMED]) + (" …" if len(found) > _MOST_NAMED else "")
        return f"its safetensors are several models, or only an adapter: {shown}"
    if _CONFIG in names and any(name.endswith((".bin", ".pth", ".pt")) for name in names):
        return "its weights are PyTorch pickles, which can run code when they are loaded"
    return ""


def read_digests(
    root: Path, files: Iterable[Path], *, listener: ProgressListener | None = None
) -> tuple[SourceFile, ...]:
    """The files with their digests; only what is not known by path, size and time of change is read. `listener` hears how
    far. Raises FileError."""
    known = digests_known(root)
    stats = {file: _stat(file) for file in files}
    unread = {file: found[0] for file, found in stats.items() if known.get(_key(file), ("",))[1:] != found}
    progress = ReadProgress({str(file): size for file, size in unread.items()}, listener or ProgressListener())
    digests = {}
    for file in unread:
        with our_io_error(file, verb="read"):
            digests[file] = digest_of(file, on_bytes=progress.of(str(file)))
        if _stat(file) != stats[file]:
            raise FileError(f"{file} changed while it was being read", hint="run it again once nothing writes to it")
        _remember(root, file, digests[file], stats[file])
    return tuple(
        SourceFile(_key(file), size, digests.get(file) or known[_key(file)][0], mtime_ns)
        for file, (size, mtime_ns) in stats.items()
    )


def known_digests(
    root: Path, files: Iterable[Path], known: KnownDigests | None = None
) -> tuple[SourceFile, ...] | None:
    """As `read_digests`, but None if that would have to read a file. `known`: for many calls, `digests_known`."""
    known = digests_known(root) if known is None else known
    found = []
    for file in files:
        try:
            size, mtime_ns = _stat(file)
        except FileError:
            return None
        digest, *stat = known.get(_key(file), ("",))
        if tuple(stat) != (size, mtime_ns):
            return None
        found.append(SourceFile(_key(file), size, digest, mtime_ns))
    return tuple(found)


def is_unchanged(file: SourceFile) -> bool:
    """Has a local file of a record the size and the time of change that were recorded?"""
    try:
        return _stat(Path(file.path)) == (file.size_bytes, file.mtime_ns)
    except FileError:
        return False


def _key(file: Path) -> str:
    """The path as records keep it: text that can be written to a file."""
    text = str(absolute(file)).encode(errors="backslashreplace").decode()
    return re.sub(UNPRINTABLE, lambda match: f"\\x{ord(match[0]):02x}", text)


def _stat(file: Path) -> tuple[int, int]:
    """(size, time of change). Raises FileError."""
    if size_of(file) < 0:
        raise FileError(f"{file} is missing or not a regular file")
    with our_io_error(file, verb="read"):
        found = file.stat()
    return found.st_size, found.st_mtime_ns


def digests_known(root: Path) -> KnownDigests:
    """From what was read and what was imported."""
    known = {
        file.path: (file.digest, file.size_bytes, file.mtime_ns)
        for manifest in read_manifests(root)
        if manifest.source and not manifest.repo
        for file in manifest.source.files
    }
    return known | _read_cache(root)


def _read_cache(root: Path) -> KnownDigests:
    """A cache that cannot be read knows nothing."""
    try:
        rows: Any = read_json(digests_path(root), limit_bytes=_CACHE_BYTES)
    except FileError:
        return {}
    return {path: tuple(row) for path, row in rows.items() if _is_row(row)} if isinstance(rows, dict) else {}


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or len(row) != 3:
        return False
    return bool(row[0]) and is_digest(row[0]) and all(type(number) is int and number >= 0 for number in row[1:])


def _remember(root: Path, file: Path, digest: str, stat: tuple[int, int]) -> None:
    """A store that cannot be written is used all the same."""
    with contextlib.suppress(FileError, OSError), records_lock(root):
        rows = _read_cache(root)
        rows.pop(_key(file), None)
        rows[_key(file)] = (digest, *stat)
        write_json(inside(root, digests_path(root)), dict(list(rows.items())[-_MOST_KNOWN:]))
