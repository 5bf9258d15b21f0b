"""The record of an installed model. No manifest, no model: it is written last, atomically."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lmsupply_cli.errors import LmsupplyError

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """`folder` is relative to the store's root; `files` maps paths in the repo to bytes."""

    ref: str
    repo: str
    commit: str
    variant: str
    folder: str
    licence: str
    tier: str
    files: Mapping[str, int]
    pulled: str  # ISO date

    @property
    def key(self) -> str:
        return "--".join((self.repo.replace("/", "--"), self.commit, self.variant.replace("/", "--") or "root"))

    @property
    def size_bytes(self) -> int:
        return sum(self.files.values())


def manifests_dir(root: Path) -> Path:
    return root / ".lmsupply" / "manifests"


def write_manifest(root: Path, manifest: Manifest) -> None:
    folder = manifests_dir(root)
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, **asdict(manifest)}, file, indent=1)
    Path(temporary).replace(folder / f"{manifest.key}.json")


def read_manifests(root: Path) -> list[Manifest]:
    """Every manifest of the store, by ref. Raises LmsupplyError for one of a newer lmsupply."""
    found = []
    for path in sorted(manifests_dir(root).glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            schema = data.pop("schema")
            if schema > SCHEMA:
                raise LmsupplyError(f"{path} was written by a newer lmsupply", hint="pip install -U lmsupply")
            found.append(Manifest(**data))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return sorted(found, key=lambda m: (m.ref, m.commit, m.variant))
