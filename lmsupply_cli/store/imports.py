"""Imported models: written beside, checked, flushed, renamed, and recorded last.

A model lives in `.lmsupply/imported/KEY`, where KEY says what it was imported from and in which form. So the same content
is imported once, whatever its files are called, and several records (names) may share the folder. An import writes to
`KEY.partial` under the lock of KEY; a folder that no record names is what a killed import left, and is freed or replaced.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE, License
from lmsupply_cli.catalogue.lookup import find_entry
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.errors import FileError, ModelFilesError, UsageError
from lmsupply_cli.events import Notice, ProgressListener
from lmsupply_cli.files import free_bytes, is_folder, listed, our_io_error, size_of
from lmsupply_cli.locks import Busy, once
from lmsupply_cli.store.add import valid_name
from lmsupply_cli.store.digest import ReadProgress, digest_of
from lmsupply_cli.store.layout import PARTIAL, import_key, imported_dir, inside
from lmsupply_cli.store.lock import LOCAL, import_lock, repo_lock
from lmsupply_cli.store.manifest import (
    FileRecord,
    ImportForm,
    ImportSource,
    Manifest,
    digest_of_source,
    forget_unfinished,
    now,
    read_manifests,
    read_unfinished,
    remove_manifest,
    write_manifest,
    write_unfinished,
)
from lmsupply_cli.store.plan import ROOM_BYTES
from lmsupply_cli.store.remove import is_named, remove_tree
from lmsupply_cli.store.source_paths import SourcePath, known_digests, plain_name, read_digests
from lmsupply_cli.units import format_bytes


@dataclass(frozen=True, slots=True)
class NewImport:
    """What is going to be imported, and the name that it gets. `repo`, `revision` and `commit` are "" for local files;
    the `kinds` and `forms` of the source are known at the end."""

    ref: str
    source: ImportSource
    license: License = UNKNOWN_LICENSE
    repo: str = ""
    revision: str = ""
    commit: str = ""
    variant: str = ""

    def record(self, folder: str, files: Mapping[str, FileRecord]) -> Manifest:
        return Manifest(
            ref=self.ref,
            repo=self.repo,
            revision=self.revision,
            commit=self.commit,
            variant=self.variant,
            snapshot=folder,
            folder=folder,
            license=self.license.id,
            tier=self.license.tier,
            files=files,
            pulled=now(),
            source=self.source,
        )


@dataclass(frozen=True, slots=True)
class Staging:
    """Where an import is written. `installed`: it was imported before, so that nothing is left to do."""

    root: Path
    new: NewImport
    folder: Path
    installed: Manifest | None = None


def find_import(
    root: Path, files: Sequence[Path], form: ImportForm | None = None, *, listener: ProgressListener | None = None
) -> Manifest | None:
    """The installed import of these files, in any form or in `form`; that of the same place first, then the newest.
    Files that are not known by path, size and time of change are read. Raises FileError."""
    sources = read_digests(root, files, listener=listener)
    digest, paths = digest_of_source(sources), {file.path for file in sources}
    found = [
        m
        for m in read_manifests(root)
        if m.source
        and digest_of_source(m.source.files) == digest
        and form in (None, m.source.form)
        and is_folder(root / m.folder)
    ]
    return max(found, key=lambda m: (bool(m.source and m.source.files[0].path in paths), m.pulled), default=None)


def name_for(root: Path, source: SourcePath, form: ImportForm | None = None) -> str:
    """The ref of an import that nobody named: that of the file or folder; where another model has it, or this one in
    another form than `form`, with the precision or a number."""
    if source.found:
        return source.found
    base = plain_name(source.name)
    paths = {str(file) for file in source.files}
    digest = digest_of_source(known_digests(root, source.files) or ())
    manifests = read_manifests(root)
    others = {m.ref for m in manifests if not (m.source and _is_from(m.source, paths))}
    forms = {m.ref for m in manifests if form and m.source and m.source.form != form and _is_of(m.source, digest)}
    names = [base, *([f"{base}-{form.precision}"] if form and base in forms else [])]
    names += [f"{base}-{number}" for number in range(2, len(others | forms) + 3)]
    return next(name for name in names if name not in others | forms and not find_entry(name))


def check_name(root: Path, name: str, source: SourcePath) -> str:
    """`name` as a ref. Raises UsageError for what cannot be one, and if another model has it. The name of a model of another
    program is one for the model that has it already."""
    paths = {str(file) for file in source.files}
    if any(m.ref == name and m.source and _is_from(m.source, paths) for m in read_manifests(root)):
        return name
    ref = valid_name(name)
    _refuse_taken(root, ref, paths, digest_of_source(known_digests(root, source.files) or ()))
    return ref


def _is_of(source: ImportSource, digest: str) -> bool:
    return digest_of_source(source.files) == digest


def _is_from(source: ImportSource, paths: set[str]) -> bool:
    return source.files[0].path in paths


def _refuse_taken(root: Path, ref: str, paths: set[str], digest: str = "") -> None:
    """Raises UsageError if a model has the name that was not imported from these paths, and has not this digest. The names
    of models of other programs mean whatever these programs have."""
    if ":" in ref:
        return
    for m in read_manifests(root):
        same = m.source and (_is_from(m.source, paths) or digest_of_source(m.source.files) == digest)
        if m.ref == ref and not same:
            raise UsageError(
                f"there is already a model called {ref}",
                hint=f"choose another name, or remove that one: lmsupply rm {ref}",
            )
    if find_entry(ref):
        raise UsageError(f"there is already a model called {ref}", hint="choose another name")


@contextmanager
def begin_import(
    root: Path, new: NewImport, *, needed_bytes: int, again: bool = False, listener: ProgressListener | None = None
) -> Iterator[Staging]:
    """An empty folder to write the model to, for `finish_import`. Without that, and after any error, nothing is left of it.

    Waits for another process that imports the same. `needed_bytes`: what will be written; `again`: import although it is
    installed. Raises FileError, UsageError if another model has the name.
    """
    listener = listener or ProgressListener()
    key = new.source.key
    notice = Notice("waiting", f"another lmsupply is importing {new.ref}; waiting for it")
    _check_ref(root, new)
    with import_lock(root, key, waiting=once(lambda: listener.notice(notice))):
        _drop_unnamed(root, key)
        _forget_killed(root, key)
        if not again and (installed := _shared(root, new)):
            yield Staging(root, new, root / installed.folder, installed)
            return
        partial = imported_dir(root) / f"{key}{PARTIAL}"
        _check_room(root, new, needed_bytes)
        record = new.record(partial.relative_to(root).as_posix(), {})
        write_unfinished(root, record)
        with our_io_error(partial):
            inside(root, partial).mkdir(parents=True)
        try:
            yield Staging(root, new, partial)
        finally:
            with contextlib.suppress(FileError):  # what cannot be removed is known by its record
                _drop_unnamed(root, key)
                forget_unfinished(root, record.key)


def finish_import(
    staging: Staging,
    *,
    kinds: Mapping[str, int],
    forms: Mapping[str, int],
    parameters: int = 0,
    listener: ProgressListener | None = None,
) -> Manifest:
    """Check what was written, bring it to its place and record it; a name that led to an older import of the same place
    leads to this one. `listener` hears how far the files are read. Raises ModelFilesError, FileError, UsageError."""
    root, new = staging.root, staging.new
    try:
        open_folder(staging.folder)
    except ModelFilesError as error:
        raise ModelFilesError(f"the import of {new.ref} is not usable: {error.message}", hint=error.hint) from error
    files = _sealed(staging.folder, listener or ProgressListener())
    home = _free_place(root, new.source.key)
    with our_io_error(home):
        inside(root, staging.folder).replace(home)
        _flush_folder(home.parent)
    source = replace(new.source, kinds=dict(kinds), forms=dict(forms), parameters=parameters)
    manifest = replace(new, source=source).record(home.relative_to(root).as_posix(), files)
    for other in _records_of(root, new.source.key):
        if other.key != manifest.key and other.source:  # other names of the same import
            other_source = _made_as(other.source, source)
            moved = replace(other, snapshot=manifest.snapshot, folder=manifest.folder, files=files, source=other_source)
            write_manifest(root, moved)
    _install(root, manifest)
    return manifest


def share_import(root: Path, new: NewImport, *, listener: ProgressListener | None = None) -> Manifest | None:
    """The installed import of the same content in the same form, also under this name from now on; None if there is none.
    Waits for another process that imports it. Raises FileError, UsageError."""
    listener = listener or ProgressListener()
    notice = Notice("waiting", f"another lmsupply is importing {new.ref}; waiting for it")
    with import_lock(root, new.source.key, waiting=once(lambda: listener.notice(notice))):
        return _shared(root, new)


def _shared(root: Path, new: NewImport) -> Manifest | None:
    """Under the lock of the import."""
    here = [m for m in _records_of(root, new.source.key) if is_folder(root / m.folder)]
    if not here:
        return None
    model = here[0]
    assert model.source
    source = _made_as(new.source, model.source)
    manifest = replace(new, source=source).record(model.folder, model.files)
    known = next((m for m in here if m.key == manifest.key), None)
    if known and known.source and known.repo and known.source.kept:  # its files lie where its commit says
        manifest = replace(known, ref=manifest.ref)
    elif known:
        manifest = replace(manifest, pulled=known.pulled)
    if manifest != known or _older(root, manifest):
        _install(root, manifest)
    return manifest


def _made_as(source: ImportSource, made: ImportSource) -> ImportSource:
    """With what is known of the model, which is made already."""
    return replace(source, kinds=made.kinds, forms=made.forms, importer=made.importer, parameters=made.parameters)


def _records_of(root: Path, key: str) -> list[Manifest]:
    return [m for m in read_manifests(root) if m.source and m.source.key == key]


def _check_ref(root: Path, new: NewImport) -> None:
    if not new.repo:
        paths = {file.path for file in new.source.files}
        _refuse_taken(root, new.ref, paths, digest_of_source(new.source.files))


def _install(root: Path, manifest: Manifest) -> None:
    """Write the record. A name that is no repo's leads to one content: the record of an older one goes."""
    if manifest.repo or not manifest.source:
        write_manifest(root, manifest)
        return
    paths, digest = {file.path for file in manifest.source.files}, digest_of_source(manifest.source.files)
    with repo_lock(root, LOCAL, waiting=lambda: None):
        _refuse_taken(root, manifest.ref, paths, digest)
        write_manifest(root, manifest)
        older = _older(root, manifest)
        for record in older:
            remove_manifest(root, record)
    for key in {record.source.key for record in older if record.source}:
        with contextlib.suppress(Busy, FileError), import_lock(root, key):
            _drop_unnamed(root, key)


def _older(root: Path, manifest: Manifest) -> list[Manifest]:
    """The imports of other contents that have the name of a local import."""
    if manifest.repo or not manifest.source:
        return []
    digest = digest_of_source(manifest.source.files)
    named = [m for m in read_manifests(root) if m.ref == manifest.ref and not m.repo]
    return [m for m in named if m.source and digest_of_source(m.source.files) != digest]


def _drop_unnamed(root: Path, key: str) -> None:
    """Under the lock of the import: remove its folders that no record names."""
    for folder in listed(imported_dir(root)):
        if import_key(folder.name) == key and not is_named(root, folder.relative_to(root).as_posix()):
            remove_tree(root, folder)


def _forget_killed(root: Path, key: str) -> None:
    """Under the lock of the import: nobody is at work on it, so that its unfinished ones, of any name, were killed."""
    with contextlib.suppress(FileError):  # a store that cannot be written has models all the same
        for record in read_unfinished(root):
            if record.source and record.source.key == key and not record.repo:
                forget_unfinished(root, record.key)


def _check_room(root: Path, new: NewImport, needed_bytes: int) -> None:
    free = free_bytes(root)
    if needed_bytes + ROOM_BYTES > free:
        raise FileError(
            f"importing {new.ref} writes {format_bytes(needed_bytes)}, but only {format_bytes(free)} is free on the disk "
            f"of {root}",
            hint="free some space (lmsupply rm), or choose another disk with `cache_dir`",
        )


def _sealed(folder: Path, listener: ProgressListener) -> dict[str, FileRecord]:
    """Size and digest of each file, all of them on the disk. Raises FileError."""
    sizes = {path: size for path in listed(folder, "**/*") if (size := size_of(path)) >= 0 and not path.is_symlink()}
    names = {path: path.relative_to(folder).as_posix() for path in sizes}
    progress = ReadProgress({names[path]: size for path, size in sizes.items()}, listener)
    records = {}
    for path, size in sizes.items():
        with our_io_error(path):
            with path.open("r+b") as file:
                os.fsync(file.fileno())
            records[names[path]] = FileRecord(size, digest_of(path, on_bytes=progress.of(names[path])))
    for below in {path.parent for path in sizes}:
        with our_io_error(below):
            _flush_folder(below)
    return records


def _flush_folder(folder: Path) -> None:
    """Raises OSError. Windows has no handle of a folder to flush."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _free_place(root: Path, key: str) -> Path:
    """Where no folder is yet: an import that is done again never touches the one in use."""
    names: Iterable[str] = (key if number == 0 else f"{key}.{number}" for number in range(1_000_000))
    return next(place for name in names if not os.path.lexists(place := imported_dir(root) / name))
