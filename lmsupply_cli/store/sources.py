"""Fetch what a model of the Hub is imported from: the files of a pull, which go once the import is installed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lmsupply_cli.errors import FileError
from lmsupply_cli.events import Notice, ProgressListener
from lmsupply_cli.files import our_io_error
from lmsupply_cli.hub.client import HubClient
from lmsupply_cli.locks import once
from lmsupply_cli.store.digest import digest_of, file_matches
from lmsupply_cli.store.fetch import fetch_files
from lmsupply_cli.store.imports import NewImport, share_import
from lmsupply_cli.store.layout import file_path, model_dir, snapshot_dir
from lmsupply_cli.store.lock import repo_lock
from lmsupply_cli.store.manifest import (
    FileRecord,
    ImportForm,
    ImportSource,
    Manifest,
    SourceFile,
    forget_unfinished,
    now,
    read_manifests,
    write_manifest,
)
from lmsupply_cli.store.plan import SourcePlan, source_files
from lmsupply_cli.store.pull import refuse_what_never_runs
from lmsupply_cli.store.remove import drop_refs, remove_files


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """Files of a source in the store. `installed`: it was imported in this form before, and `files` are not here; `new`:
    for `begin_import`, once its `importer` is set."""

    folder: Path
    files: tuple[Path, ...]
    licenses: tuple[Path, ...]
    new: NewImport
    installed: Manifest | None = None


@contextmanager
def fetch_source(
    plan: SourcePlan,
    root: Path,
    form: ImportForm,
    *,
    keep: bool = False,
    again: bool = False,
    listener: ProgressListener | None = None,
    client: Callable[[], HubClient] = HubClient,
) -> Iterator[FetchedSource]:
    """Bring the files of the source here, unless it is imported in this form already, and hold the lock of the repo.

    After the block the files are removed, unless `keep`; after an error in it they stay, so that the next run need not
    fetch them again. `again`: check and fetch them although it is imported. Files that are kept without being imported
    stay with the record of an unfinished pull. Raises HubError, FileError, ModelFilesError.
    """
    refuse_what_never_runs(plan)
    if again:  # those that are kept may be damaged too
        plan = replace(plan, distrusted=frozenset(file.target for file in plan.source.files))
    listener = listener or ProgressListener()
    for obstacle in plan.obstacles:
        listener.notice(Notice("may_not_run", f"{plan.ref}: {obstacle.note}"))
    waiting = Notice("waiting", f"another lmsupply is working on {plan.tree.repo}; waiting for it")
    with repo_lock(root, plan.tree.repo, waiting=once(lambda: listener.notice(waiting))):
        record, installed = _record(plan), None
        if not again and all(file.digest for file in plan.source.files):
            installed = share_import(root, _new(plan, form, source_files(plan.source), kept=False), listener=listener)
        if not installed or (keep and installed.source and not installed.source.kept):
            files = [planned.file for planned in plan.files]
            fetch_files(plan, files, record, root, listener, client)
        sources = source_files(plan.source) if installed else _with_digests(plan, root)
        fetched = _fetched(plan, root, _new(plan, form, sources, kept=keep), installed)
        if installed and keep:
            fetched = replace(fetched, installed=_kept(root, installed))
        yield fetched
        needed = {path for m in read_manifests(root) for path in m.paths(root)}
        if not keep or needed.issuperset(fetched.files):
            _drop(root, record, needed)


def _drop(root: Path, record: Manifest, needed: Collection[Path]) -> None:
    """Remove the files of a source that no installed model needs, and its record. Raises FileError."""
    # a link was made by another program that shares the folder
    remove_files(root, [path for path in record.paths(root) if path not in needed and not path.is_symlink()])
    drop_refs(root, record.repo)
    forget_unfinished(root, record.key)


def _new(plan: SourcePlan, form: ImportForm, files: tuple[SourceFile, ...], *, kept: bool) -> NewImport:
    name, tree = plan.source.name, plan.tree
    variant = name if form.precision == "exact" else f"{name}-{form}"
    source = ImportSource(plan.source.format, files, form.precision, form.block_size, kept=kept)
    return NewImport(plan.ref, source, plan.license, tree.repo, tree.revision, tree.commit, variant)


def _fetched(plan: SourcePlan, root: Path, new: NewImport, installed: Manifest | None) -> FetchedSource:
    folder = snapshot_dir(root, plan.tree.repo, plan.tree.commit)
    files = tuple(file_path(folder, file.target) for file in plan.source.files)
    licenses = tuple(file_path(folder, file.target) for file in plan.source.licenses)
    return FetchedSource(folder, files, licenses, new, installed)


def _with_digests(plan: SourcePlan, root: Path) -> tuple[SourceFile, ...]:
    """Of a file whose digest the Hub did not name, that of what arrived."""
    folder, found = snapshot_dir(root, plan.tree.repo, plan.tree.commit), []
    for file in source_files(plan.source):
        path = file_path(folder, file.path)
        with our_io_error(path, verb="read"):
            found.append(file if file.digest else file._replace(digest=digest_of(path)))
    return tuple(found)


def _kept(root: Path, installed: Manifest) -> Manifest:
    """The record of an import whose source is here now and stays."""
    source = installed.source
    if not source or source.kept:
        return installed
    folder = snapshot_dir(root, installed.repo, installed.commit)
    for file in source.files:
        path = file_path(folder, file.path)
        with our_io_error(path, verb="read"):
            if not file_matches(path, file.digest, file.size_bytes):
                raise FileError(f"{path} disappeared while it was being fetched", hint="run it again")
    kept = replace(installed, source=replace(source, kept=True))
    write_manifest(root, kept)
    return kept


def _record(plan: SourcePlan) -> Manifest:
    """Of the files while they are fetched and imported."""
    tree, here = plan.tree, Path()
    files = [planned.file for planned in plan.files]
    return Manifest(
        ref=plan.ref,
        repo=tree.repo,
        revision=tree.revision,
        commit=tree.commit,
        variant=plan.source.name,
        snapshot=snapshot_dir(here, tree.repo, tree.commit).as_posix(),
        folder=model_dir(here, tree.repo, tree.commit, plan.source.name).as_posix(),
        license=plan.license.id,
        tier=plan.license.tier,
        files={file.target: FileRecord(file.size_bytes, file.digest) for file in files},
        pulled=now(),
    )
