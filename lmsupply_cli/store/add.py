"""Register a local folder as a model: it is used in place."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from lmsupply_cli.catalogue.lookup import find_entry
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.errors import ModelNotFound, UsageError
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.files import absolute, is_file, is_folder, listed, our_io_error, size_of
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.store.digest import ReadProgress, digest_of
from lmsupply_cli.store.locate import at_path
from lmsupply_cli.store.lock import LOCAL, repo_lock
from lmsupply_cli.store.manifest import FileRecord, Manifest, now, read_manifests, write_manifest
from lmsupply_cli.store.source_paths import plain_name

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def add_folder(
    root: Path,
    folder: Path,
    alias: str,
    *,
    license: str = "unknown",
    tier: str = "unknown",
    trust: bool = False,
    listener: ProgressListener | None = None,
) -> Manifest:
    """Check the folder and register it with the digests of its files. If it is already registered under this name, its
    record is updated. `listener` hears how far the files are read.

    Raises UsageError, ModelFilesError, UntrustedModelFiles, ModelNotFound, FileError.
    """
    name = valid_name(alias)
    path = absolute(folder)
    _check_place(root, path)
    open_folder(path, trust=trust)
    _check_name(root, path, name)
    files = _recorded(path, listener or ProgressListener())
    manifest = Manifest(
        ref=name, repo="", revision="", commit="", variant="", snapshot=str(path), folder=str(path),
        license=license, tier=tier, files=files, pulled=now(),
    )  # fmt: skip
    with repo_lock(root, LOCAL, waiting=lambda: None):
        known = _check_name(root, path, name)
        if not known or known.files != files:
            write_manifest(root, manifest)
    return manifest


def valid_name(alias: str) -> str:
    """The ref of a model that is called `alias`. Raises UsageError."""
    name = alias.lower()
    if not _NAME.fullmatch(name):
        raise UsageError(f"{alias!r} is not a valid model name", hint="use letters, digits, dots, dashes, underscores")
    return name


def _check_name(root: Path, folder: Path, name: str) -> Manifest | None:
    """The record of this folder under this name. Raises UsageError if another model has the name."""
    if known := find_added(root, folder, name):
        return known
    other = next((m for m in read_manifests(root) if m.ref == name), None)
    if other or find_entry(name):
        removal = f", or remove that one: lmsupply rm {name}" if other else ""
        raise UsageError(
            f"there is already a model called {name}",
            hint=f"choose another name: lmsupply add {folder} NAME{removal}",
        )
    return None


def _check_place(root: Path, folder: Path) -> None:
    """Raises UsageError for a folder of the store or of another program: its license would be forgotten."""
    if (kept := at_path(folder, root)).repo:
        raise UsageError(
            f"{folder} is already known as {kept.ref}", hint=f"use it by that name: lmsupply run {kept.ref}"
        )


def _recorded(folder: Path, listener: ProgressListener) -> dict[str, FileRecord]:
    """Size and digest of each file below the folder. Raises FileError for one that cannot be read."""
    found = {file: size for file in listed(folder, "**/*") if (size := size_of(file)) >= 0}
    names = {file: file.relative_to(folder).as_posix() for file in found}
    progress = ReadProgress({names[file]: size for file, size in found.items()}, listener)
    records = {}
    for file, size in found.items():
        with our_io_error(file, verb="read"):
            records[names[file]] = FileRecord(size, digest_of(file, on_bytes=progress.of(names[file])))
    return records


def find_added(root: Path, folder: Path, name: str) -> Manifest | None:
    """The record of this folder under this name."""
    path = str(absolute(folder))
    return next((m for m in read_manifests(root) if m.added and (m.ref, m.folder) == (name.lower(), path)), None)


def folder_of(path: Path) -> Path:
    """The model folder for `path`: the path itself or, if it is a file of a model, the folder that contains it.

    Raises ModelNotFound if there is none.
    """
    here = absolute(path)
    if is_folder(here):
        return here
    if is_file(here):
        if is_file(here.parent / CONFIG):
            return here.parent
        raise ModelNotFound(f"{path} is a file, not a model folder", hint=f"name a folder that contains {CONFIG}")
    beside = {folder.name: folder for folder in listed(here.parent) if is_folder(folder)}
    near = get_close_matches(here.name, beside, n=1)
    raise ModelNotFound(
        f"no such folder: {path}",
        hint=f"did you mean {path.parent / near[0]}?" if near else f"check the path; a model folder contains {CONFIG}",
    )


def name_of(folder: Path) -> str:
    """The name that a folder gets by default: its own, with dashes for what a name may not contain."""
    return plain_name(absolute(folder).name)
