"""The records of a store: of installed models, and of pulls and removals that are not finished.

No manifest, no model: it is written last, and removed first. A pull begins with a record of what it will write, a
removal turns the manifest into one, so whatever a killed process leaves behind is known, listed and freed.
Records are read as foreign data: they may come from a backup, from another user or a newer lmsupply.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

from lmsupply_cli.addresses import is_repo
from lmsupply_cli.catalogue.entry import Tier
from lmsupply_cli.errors import FileError
from lmsupply_cli.files import listed, our_io_error, read_json, write_json
from lmsupply_cli.hub.tree import is_commit, is_digest, is_safe_path
from lmsupply_cli.store.layout import (
    inside,
    manifests_dir,
    model_dir,
    record_key,
    snapshot_dir,
    unfinished_dir,
    used_path,
)
from lmsupply_cli.store.lock import records_lock

SCHEMA = 2  # 1 spelled `license` otherwise, and is read too
_RECORD_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class FileRecord:
    """`digest` as in `hub.tree.RepoFile`; "" where the Hub gave none, and of folders that earlier versions added."""

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
    license: str
    tier: str
    files: Mapping[str, FileRecord]
    pulled: str  # ISO date and time, UTC

    @property
    def key(self) -> str:
        """Unique to repo, commit and variant; a file name on every system."""
        return record_key(self.repo or f"local-{self.ref}", self.commit, self.variant)

    @property
    def added(self) -> bool:
        """A local folder: used where it is, never removed or repaired."""
        return not self.repo

    @property
    def size_bytes(self) -> int:
        return sum(record.size_bytes for record in self.files.values())

    def paths(self, root: Path) -> list[Path]:
        """Its files on the disk."""
        return [root / self.snapshot / path for path in self.files]


class Records(NamedTuple):
    """What could be read, and one line for each record that could not."""

    manifests: tuple[Manifest, ...]
    skipped: tuple[str, ...] = ()


def now() -> str:
    """The time of a pull: of several revisions the last one is the model."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Raises FileError."""
    _write(root, manifests_dir(root), manifest)


def write_unfinished(root: Path, manifest: Manifest) -> None:
    """Record what is about to be written. Raises FileError."""
    _write(root, unfinished_dir(root), manifest)


def begin_removal(root: Path, manifest: Manifest) -> None:
    """From here on it is not installed, and what is left of it is known. Raises FileError."""
    path, left = manifests_dir(root) / f"{manifest.key}.json", unfinished_dir(root) / f"{manifest.key}.json"
    with records_lock(root), our_io_error(left):
        left.parent.mkdir(parents=True, exist_ok=True)
        inside(root, path).replace(inside(root, left))


def forget_unfinished(root: Path, key: str) -> None:
    """Raises FileError."""
    _remove(root, unfinished_dir(root) / f"{key}.json")


def remove_manifest(root: Path, manifest: Manifest) -> None:
    """Forget a folder that was added. Raises FileError."""
    _remove(root, manifests_dir(root) / f"{manifest.key}.json")


def _write(root: Path, folder: Path, manifest: Manifest) -> None:
    with records_lock(root):
        write_json(inside(root, folder / f"{manifest.key}.json"), {"schema": SCHEMA, **asdict(manifest)})


def _remove(root: Path, path: Path) -> None:
    with records_lock(root), our_io_error(path):
        inside(root, path).unlink(missing_ok=True)


def read_manifests(root: Path) -> list[Manifest]:
    """The installed models, by ref; a record that cannot be used is no model."""
    return list(read_records(root).manifests)


def read_records(root: Path) -> Records:
    """As `read_manifests`, with what was skipped and why."""
    return _read(manifests_dir(root))


def read_unfinished(root: Path) -> list[Manifest]:
    return list(_read(unfinished_dir(root)).manifests)


def _read(folder: Path) -> Records:
    found, skipped = [], []
    for path in listed(folder, "*.json"):
        try:
            found.append(parse_manifest(read_json(path, limit_bytes=_RECORD_BYTES), path))
        except FileError as error:
            skipped.append(error.message)
    return Records(tuple(sorted(found, key=lambda m: (m.ref, m.pulled, m.commit, m.variant))), tuple(skipped))


def parse_manifest(data: Any, path: Path) -> Manifest:
    """Raises FileError for what is no record of ours, or names anything outside the store."""
    if not isinstance(data, dict):
        raise FileError(f"{path} is not a record of lmsupply: not an object")
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise FileError(f"{path} was written by a newer lmsupply", hint="pip install -U lmsupply")
    if "licence" in data:  # schema 1
        data = {"license": data["licence"]} | data
    texts = {f.name: data.get(f.name) for f in fields(Manifest) if f.name != "files"}
    wrong = next((name for name, value in texts.items() if not isinstance(value, str)), "")
    files = data.get("files")
    if wrong or not isinstance(files, dict):
        raise FileError(f"{path} is not a record of lmsupply: {wrong or 'files'} is missing or of another type")
    added = not texts["repo"]
    records = {name: _file(name, row, path, safe=added or is_safe_path(name)) for name, row in files.items()}
    manifest = Manifest(**texts, files=records)
    if manifest.tier not in get_args(Tier):
        raise FileError(f"{path} is damaged: {manifest.tier[:40]!r} is not a license tier")
    _check_place(manifest, path)
    return manifest


def _file(name: str, row: Any, path: Path, *, safe: bool) -> FileRecord:
    size, digest = (row.get("size_bytes"), row.get("digest")) if isinstance(row, dict) else (None, None)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not is_digest(digest) or not safe:
        raise FileError(f"{path} is damaged: the file {name[:200]!r}")
    return FileRecord(size, str(digest))


def _check_place(manifest: Manifest, path: Path) -> None:
    """The paths are what repo, commit and variant make them, and the record lies where its key says."""
    if manifest.added:
        right = not (manifest.commit or manifest.variant) and Path(manifest.folder).is_absolute()
    else:
        right = is_repo(manifest.repo) and is_commit(manifest.commit)
        right = right and (not manifest.variant or is_safe_path(manifest.variant))
        if right:
            here = Path()
            right = Path(manifest.snapshot) == snapshot_dir(here, manifest.repo, manifest.commit) and Path(
                manifest.folder
            ) == model_dir(here, manifest.repo, manifest.commit, manifest.variant)
    if not right or path.name != f"{manifest.key}.json":
        raise FileError(f"{path} is damaged: it names places outside of its model")


def mark_used(root: Path, key: str) -> None:
    """Remember when a model was last used; a store that cannot be written is used all the same."""
    path = used_path(root, key)
    with contextlib.suppress(OSError, FileError):
        inside(root, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def last_used_s(root: Path, key: str) -> float | None:
    """Seconds since the epoch, or None if it never was."""
    try:
        return used_path(root, key).stat().st_mtime
    except OSError:
        return None
