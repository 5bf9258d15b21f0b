"""Hash installed files again and say which are not what was pulled, or cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lmsupply_cli.engine.folder import look_at_folder
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.files import is_file, listed, reason_of, size_of
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.hub.variant import TOKENIZER_FILES
from lmsupply_cli.store.digest import ReadProgress, file_matches
from lmsupply_cli.store.layout import snapshot_dir
from lmsupply_cli.store.manifest import FileRecord, Manifest, SourceFile
from lmsupply_cli.store.source_paths import is_unchanged


@dataclass(frozen=True, slots=True)
class FileCheck:
    """`reason` is "" for a good file; `extra`: it was added later."""

    path: str
    reason: str
    extra: bool = False

    @property
    def ok(self) -> bool:
        """Whether it is as recorded."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """Result of verifying an installed model, file by file, against its manifest. `notes`: what changed outside of the
    model, such as the file that it was imported from."""

    manifest: Manifest
    files: tuple[FileCheck, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every file is as recorded."""
        return all(check.ok for check in self.files)

    @property
    def bad(self) -> list[str]:
        """Paths of the damaged or missing files."""
        return [check.path for check in self.files if not check.ok and not check.extra]

    @property
    def sizes_only(self) -> list[str]:
        """Paths of the files without a recorded checksum: of these, only the size is compared."""
        return [path for path, record in self.manifest.files.items() if not record.digest]


def verify(root: Path, manifest: Manifest, *, listener: ProgressListener | None = None) -> ModelCheck:
    """`listener` hears how far the files are read."""
    sizes = {path: record.size_bytes for path, record in manifest.files.items()}
    progress, checks = ReadProgress(sizes, listener or ProgressListener()), []
    for path, record in manifest.files.items():
        checks.append(FileCheck(path, _fault(root / manifest.snapshot / path, record, progress.of(path))))
    checks += _unknown(root, manifest)
    if all(check.ok for check in checks):  # what is whole may still be of no use
        checks += _unusable(root / manifest.folder)
    return ModelCheck(manifest, tuple(checks), tuple(_source_notes(root, manifest)))


def _source_notes(root: Path, manifest: Manifest) -> Iterator[str]:
    """What became of the files that it was imported from, where they are kept."""
    source = manifest.source
    for file in source.files if source and source.kept else ():
        path = snapshot_dir(root, manifest.repo, manifest.commit) / file.path if manifest.repo else Path(file.path)
        if size_of(path) < 0:
            yield f"the source {path} is gone"
        elif not _is_same(path, file, local=not manifest.repo):
            yield f"the source {path} changed since it was imported"


def _is_same(path: Path, file: SourceFile, *, local: bool) -> bool:
    """Of a local file that looks untouched the content is not read."""
    if local and is_unchanged(file):
        return True
    try:
        return file_matches(path, file.digest, file.size_bytes)
    except OSError:
        return False


def _unknown(root: Path, manifest: Manifest) -> list[FileCheck]:
    """Files that were added later: all but hidden ones in a folder of the user's, otherwise only those that change
    answers."""
    folder, snapshot = root / manifest.folder, root / manifest.snapshot
    pattern = "**/*" if manifest.added else "*"
    found = [file for file in listed(folder, pattern) if is_file(file)]
    names = [file.relative_to(snapshot).as_posix() for file in found if file.is_relative_to(snapshot)]
    new = [PurePosixPath(name) for name in names if name not in manifest.files]
    if manifest.added:
        seen = [name for name in new if not any(part.startswith(".") for part in name.parts)]
        return [FileCheck(str(name), "not there when you added the folder", extra=True) for name in seen]
    read = [name for name in new if name.name in TOKENIZER_FILES]
    return [FileCheck(str(name), "not part of the model: delete it", extra=True) for name in read]


def _unusable(folder: Path) -> list[FileCheck]:
    """What is in the way of running the model, but for what a flag lifts."""
    try:
        obstacles = look_at_folder(folder)[1]
    except LmsupplyError as error:
        return [FileCheck(CONFIG, error.message)]
    return [FileCheck(obstacle.file or CONFIG, obstacle.text) for obstacle in obstacles if not obstacle.lifted_by]


def _fault(path: Path, record: FileRecord, on_bytes: Callable[[int], None]) -> str:
    size = size_of(path)
    if size < 0:
        return "missing"
    if size != record.size_bytes:
        return f"{size:,} bytes instead of {record.size_bytes:,}"
    try:
        right = file_matches(path, record.digest, record.size_bytes, on_bytes=on_bytes)
    except OSError as error:
        return f"cannot be read: {reason_of(error)}"
    return "" if right else "changed: its checksum differs"
