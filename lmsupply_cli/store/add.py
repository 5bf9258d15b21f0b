"""Give a local folder a name: it is used where it is."""

from __future__ import annotations

import re
from pathlib import Path

from lmsupply_cli.catalogue.lookup import find_entry
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import absolute, listed, size_of
from lmsupply_cli.store.lock import LOCAL, repo_lock
from lmsupply_cli.store.manifest import FileRecord, Manifest, now, read_manifests, write_manifest

_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]*")


def add_folder(
    root: Path, folder: Path, alias: str, *, license: str = "unknown", tier: str = "unknown", trust: bool = False
) -> Manifest:
    """Check the folder and register it. Raises UsageError, ModelFilesError, UntrustedModelFiles, ModelNotFound."""
    name = alias.lower()
    if not _ALIAS.fullmatch(name):
        raise UsageError(f"not a name for a model: {alias!r}", hint="letters, digits, dots, dashes and underscores")
    path = absolute(folder)
    open_folder(path, trust=trust)
    files = {
        file.relative_to(path).as_posix(): FileRecord(size, "")
        for file in listed(path, "**/*")
        if (size := size_of(file)) >= 0
    }
    manifest = Manifest(
        ref=name, repo="", revision="", commit="", variant="", snapshot=str(path), folder=str(path),
        license=license, tier=tier, files=files, pulled=now(),
    )  # fmt: skip
    with repo_lock(root, LOCAL, waiting=lambda: None):
        if find_entry(name) or any(m.ref == name for m in read_manifests(root)):
            raise UsageError(
                f"{name} is already the name of a model", hint="choose another `alias`, or lmsupply rm it first"
            )
        write_manifest(root, manifest)
    return manifest
