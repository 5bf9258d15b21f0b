"""The records of a store: of installed models, and of pulls and removals that are not finished.

No manifest, no model: it is written last, and removed first. A pull begins with a record of what it will write, a
removal turns the manifest into one, so whatever a killed process leaves behind is known, listed and freed.
Records are read as foreign data: they may come from a backup, from another user or a newer lmsupply.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

from lmsupply_cli.addresses import is_repo
from lmsupply_cli.catalogue.entry import Tier
from lmsupply_cli.errors import FileError
from lmsupply_cli.files import listed, our_io_error, read_json, write_json
from lmsupply_cli.foreign import UNPRINTABLE
from lmsupply_cli.hub.tree import is_commit, is_digest, is_safe_path
from lmsupply_cli.providers import PRECISIONS
from lmsupply_cli.store.layout import (
    PARTIAL,
    import_key,
    imported_dir,
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
FORMATS = ("gguf", "safetensors")
EXACT = "exact"  # the precision of an import that is that of its source
_RECORD_BYTES = 16_000_000
_FORM = re.compile(r"[a-z0-9]{1,20}")
_BITS = re.compile(r"\s*([0-9]+)[ -]bits?\b")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """`digest` as in `hub.tree.RepoFile`; "" where the Hub gave none, and of folders that earlier versions added."""

    size_bytes: int
    digest: str


class SourceFile(NamedTuple):
    """A file that a model was imported from. `path`: absolute, or below the snapshot for a file of a repo; `digest`: "sha256:"
    and 64 hexadecimal digits, or "git-sha1:" and 40; `mtime_ns`: 0 for a file of a repo."""

    path: str
    size_bytes: int
    digest: str
    mtime_ns: int = 0


class ImportForm(NamedTuple):
    """How an import represents the weights. `precision`: "exact" for that of the source; `block_size`: weights that share
    a scale, 0 where the form leaves no choice."""

    precision: str
    block_size: int = 0

    def __str__(self) -> str:
        return f"{self.precision}-{self.block_size}" if self.block_size else self.precision


@dataclass(frozen=True, slots=True)
class ImportSource:
    """What a model was imported from, and how.

    `kinds`: how many tensors have each type, as the source names it; `forms`: how many are represented in each form;
    `kept`: whether the files of the source stay; `importer`: version of the importer; `parameters`: how many numbers the
    tensors hold, 0 where an earlier version imported them.
    """

    format: str
    files: tuple[SourceFile, ...]
    precision: str
    block_size: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    forms: Mapping[str, int] = field(default_factory=dict)
    kept: bool = True
    importer: int = 1
    parameters: int = 0

    @property
    def form(self) -> ImportForm:
        """Precision and block size."""
        return ImportForm(self.precision, self.block_size)

    @property
    def key(self) -> str:
        """The same for the same contents in the same form; the name of a folder on every system."""
        return f"{digest_of_source(self.files)[:32]}-{self.form}"

    @property
    def stored_precision(self) -> str | None:
        """The precision of most weights, such as "int4", without the norms, which stay floats; None if that is not known."""
        if self.precision in PRECISIONS and self.precision != "int8":  # for which fewer bits are carried over too
            return self.precision
        found: Counter[str] = Counter()
        for form, number in self.forms.items():
            if bits := _BITS.match(form):
                found[f"int{bits[1]}"] += number
        most = found.most_common(1) or [(self.precision if self.precision != EXACT else _floats(self.forms), 0)]
        return most[0][0] if most[0][0] in PRECISIONS else None


def _floats(forms: Mapping[str, int]) -> str:
    """Of weights that all stay floats."""
    most = max(forms, key=lambda form: forms[form], default="")
    return next(iter(re.findall(r"[a-z]+[0-9]+", most.lower())), "")


def digest_of_source(files: Iterable[SourceFile]) -> str:
    """64 hexadecimal digits that depend on the contents alone: of one large file its own SHA-256."""
    import hashlib

    digests = sorted({file.digest for file in files})
    if len(digests) == 1 and digests[0].startswith("sha256:"):
        return digests[0].removeprefix("sha256:")
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """`snapshot` and `folder` are relative to the store's root (absolute for a folder that was added);
    `files` maps paths below the snapshot. `source`: of a model that was imported; it may be shared with a record of
    another name."""

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
    source: ImportSource | None = None

    @property
    def key(self) -> str:
        """Unique to repo (or name), commit and variant, of an import to its source and form; a file name on every
        system."""
        if self.source:
            name = self.repo or f"local-{self.ref.replace(':', '=')}"
            return record_key(f"imported-{name}", self.source.key, self.variant)
        return record_key(self.repo or f"local-{self.ref}", self.commit, self.variant)

    @property
    def added(self) -> bool:
        """A local folder: used where it is, never removed or repaired."""
        return not self.repo and not self.source

    @property
    def size_bytes(self) -> int:
        return sum(record.size_bytes for record in self.files.values())

    def contents(self) -> Iterator[tuple[str, FileRecord]]:
        """Its files by their path from the root, with those of its source that are kept in the store."""
        for path, record in self.files.items():
            yield f"{self.snapshot}/{path}", record
        if self.source and self.source.kept and self.repo:
            snapshot = snapshot_dir(Path(), self.repo, self.commit).as_posix()
            for file in self.source.files:
                yield f"{snapshot}/{file.path}", FileRecord(file.size_bytes, file.digest)

    def paths(self, root: Path) -> list[Path]:
        """Its files on the disk."""
        return [root / path for path, _ in self.contents()]


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
        write_json(inside(root, folder / f"{manifest.key}.json"), {"schema": SCHEMA, **_as_json(manifest)})


def _as_json(manifest: Manifest) -> dict[str, Any]:
    row = {f.name: getattr(manifest, f.name) for f in fields(Manifest) if f.name != "source"}
    row["files"] = {path: asdict(record) for path, record in manifest.files.items()}
    if source := manifest.source:
        row["source"] = {f.name: getattr(source, f.name) for f in fields(ImportSource)} | {
            "files": [file._asdict() for file in source.files],
            "kinds": dict(source.kinds),
            "forms": dict(source.forms),
        }
    return row


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
    texts = {f.name: data.get(f.name) for f in fields(Manifest) if f.name not in ("files", "source")}
    wrong = next((name for name, value in texts.items() if not isinstance(value, str)), "")
    files = data.get("files")
    if wrong or not isinstance(files, dict):
        raise FileError(f"{path} is not a record of lmsupply: {wrong or 'files'} is missing or of another type")
    source = None if data.get("source") is None else _source(data["source"], path, local=not texts["repo"])
    added = not texts["repo"] and not source
    records = {name: _file(name, row, path, safe=added or is_safe_path(name)) for name, row in files.items()}
    manifest = Manifest(**texts, files=records, source=source)
    if manifest.tier not in get_args(Tier):
        raise FileError(f"{path} is damaged: {manifest.tier[:40]!r} is not a license tier")
    _check_place(manifest, path)
    return manifest


def _file(name: str, row: Any, path: Path, *, safe: bool) -> FileRecord:
    size, digest = (row.get("size_bytes"), row.get("digest")) if isinstance(row, dict) else (None, None)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not is_digest(digest) or not safe:
        raise FileError(f"{path} is damaged: the file {name[:200]!r}")
    return FileRecord(size, str(digest))


def _source(data: Any, path: Path, *, local: bool) -> ImportSource:
    """Raises FileError. `local`: the files are not of a repo, and may have any path."""
    row = {"parameters": 0, **data} if isinstance(data, dict) else {}
    files = row.get("files")
    found = [_source_file(file, local=local) for file in files] if isinstance(files, list) else []
    counts = {name: _counts(row.get(name)) for name in ("kinds", "forms")}
    numbers = [row.get("block_size"), row.get("importer"), row.get("parameters")]
    right = row.get("format") in FORMATS and isinstance(row.get("kept"), bool) and all(map(_is_count, numbers))
    right = right and isinstance(row.get("precision"), str) and bool(_FORM.fullmatch(row["precision"]))
    if not right or not found or None in found or None in counts.values():
        raise FileError(f"{path} is damaged: the source of the import")
    plain = {name: row[name] for name in ("format", "precision", "block_size", "kept", "importer", "parameters")}
    return ImportSource(**plain, **counts, files=tuple(file for file in found if file))  # type: ignore[arg-type]


def _source_file(row: Any, *, local: bool) -> SourceFile | None:
    if not isinstance(row, dict) or not isinstance(row.get("path"), str):
        return None
    path: str = row["path"]
    size, digest, mtime_ns = row.get("size_bytes"), row.get("digest"), row.get("mtime_ns")
    right = bool(digest) and is_digest(digest) and _is_count(size) and _is_count(mtime_ns)
    safe = bool(path) and not re.search(UNPRINTABLE, path) if local else is_safe_path(path)
    return SourceFile(path, size, str(digest), mtime_ns) if right and safe else None  # type: ignore[arg-type]


def _counts(value: Any) -> Mapping[str, int] | None:
    right = isinstance(value, dict) and all(map(_is_count, value.values()))
    return value if right and not re.search(UNPRINTABLE, "".join(value)) else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_place(manifest: Manifest, path: Path) -> None:
    """The paths are what repo, commit and variant (or the source of an import) make them, and the record lies where its
    key says."""
    if manifest.added:
        right = not (manifest.commit or manifest.variant) and Path(manifest.folder).is_absolute()
    else:
        right = is_repo(manifest.repo) and is_commit(manifest.commit)
        right = right or (manifest.source is not None and not (manifest.repo or manifest.commit))
        right = right and (not manifest.variant or is_safe_path(manifest.variant))
        if right:
            snapshot, folder = _places(manifest, unfinished=path.parent.name == unfinished_dir(Path()).name)
            right = (Path(manifest.snapshot), Path(manifest.folder)) == (snapshot, folder)
    if not right or path.name != f"{manifest.key}.json":
        raise FileError(f"{path} is damaged: it names places outside of its model")


def _places(manifest: Manifest, *, unfinished: bool) -> tuple[Path, Path]:
    """Where its snapshot and its folder have to be."""
    here = Path()
    if not manifest.source:
        repo, commit = manifest.repo, manifest.commit
        return snapshot_dir(here, repo, commit), model_dir(here, repo, commit, manifest.variant)
    name = Path(manifest.folder).name
    named = import_key(name) == manifest.source.key and (unfinished or not name.endswith(PARTIAL))
    folder = imported_dir(here) / (name if named else manifest.source.key)
    return folder, folder


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
