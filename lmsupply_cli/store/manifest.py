"""The record of an installed model. No manifest, no model: it is written last, atomically."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmsupply_cli.errors import LmsupplyError

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class FileRecord:
    """`digest` as in `hub.tree.RepoFile`; "" where the Hub gave none."""

    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`snapshot` and `folder` are relative to the store's root (absolute for a folder that was added);
    `files` maps paths below the snapshot."""

    ref: str
    repo: str
    revision: str
    commit: str
    variant: str
    snapshot: str
    folder: str
    licence: str
    tier: str
    files: Mapping[str, FileRecord]
    pulled: str  # ISO date and time, UTC

    @property
    def key(self) -> str:
        """Unique to repo, commit and variant; a file name on every system."""
        parts = (self.repo or f"local-{self.ref}", self.commit, self.variant or "root")
        return "--".join(part.replace("/", "--").replace(" ", "_") for part in parts if part)

    @property
    def added(self) -> bool:
        """A local folder: used where it is, never removed or repaired."""
        return not self.repo

    @property
    def size_bytes(self) -> int:
        return sum(record.size_bytes for record in self.files.values())


def now() -> str:
    """The time of a pull: of several revisions the last one is the model."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def manifests_dir(root: Path) -> Path:
    return root / ".lmsupply" / "manifests"


def write_manifest(root: Path, manifest: Manifest) -> None:
    write_json(manifests_dir(root) / f"{manifest.key}.json", {"schema": SCHEMA, **asdict(manifest)})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all: written beside, flushed to the disk, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def remove_manifest(root: Path, manifest: Manifest) -> None:
    (manifests_dir(root) / f"{manifest.key}.json").unlink(missing_ok=True)


def read_manifests(root: Path) -> list[Manifest]:
    """Every manifest of the store, by ref; one that is damaged is no model.

    Raises LmsupplyError for one of a newer lmsupply.
    """
    found = []
    for path in sorted(manifests_dir(root).glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            schema = data.pop("schema")
            if schema > SCHEMA:
                raise LmsupplyError(f"{path} was written by a newer lmsupply", hint="pip install -U lmsupply")
            data["files"] = {name: FileRecord(**record) for name, record in data["files"].items()}
            found.append(Manifest(**data))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return sorted(found, key=lambda m: (m.ref, m.pulled, m.commit, m.variant))


def mark_used(root: Path, key: str) -> None:
    """Remember when a model was last used; a store that cannot be written is used all the same."""
    with contextlib.suppress(OSError):
        folder = root / ".lmsupply" / "used"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()


def last_used_s(root: Path, key: str) -> float | None:
    """Seconds since the epoch, or None where it never was."""
    try:
        return (root / ".lmsupply" / "used" / key).stat().st_mtime
    except OSError:
        return None
