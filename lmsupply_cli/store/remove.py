"""What removing a model would free, and doing it: never what another model shares, never outside the store."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from lmsupply_cli.errors import FileError
from lmsupply_cli.files import is_folder, listed, our_io_error, read_text
from lmsupply_cli.locks import once
from lmsupply_cli.store.layout import inside, repo_dir, used_path
from lmsupply_cli.store.lock import LOCAL, import_lock, repo_lock
from lmsupply_cli.store.manifest import (
    Manifest,
    begin_removal,
    forget_unfinished,
    read_manifests,
    remove_manifest,
)


class Removal(NamedTuple):
    """`shared` are files that another installed model needs too: they stay."""

    manifests: tuple[Manifest, ...]
    files: tuple[Path, ...]
    shared: tuple[Path, ...]
    freed_bytes: int


def plan_removal(root: Path, manifests: Sequence[Manifest]) -> Removal:
    """A folder that was added is forgotten, and its files stay where they are. The folder of an import goes with
    everything in it, once no other record needs it."""
    going = {m.key for m in manifests}
    staying = [m for m in read_manifests(root) if m.key not in going and not m.added]
    kept = {path for m in staying for path in m.paths(root)}
    files = dict.fromkeys(path for m in manifests if not m.added for path in m.paths(root))
    folders = {m.folder for m in manifests if m.source} - {m.folder for m in staying}
    files |= dict.fromkeys(path for folder in sorted(folders) for path in _below(root / folder))
    free = tuple(path for path in files if path not in kept and _is_there(path))
    return Removal(tuple(manifests), free, tuple(path for path in files if path in kept), freed_bytes(free))


def freed_bytes(paths: Iterable[Path]) -> int:
    """What goes when all of these names go: a content with another name elsewhere stays."""
    names: dict[tuple[int, int], int] = {}
    freed = 0
    for path in paths:
        try:
            found = path.lstat()
        except OSError:
            continue
        node = (found.st_dev, found.st_ino)
        names[node] = names.get(node, 0) + 1
        if names[node] == max(1, found.st_nlink):
            freed += found.st_size
    return freed


def carry_out(
    root: Path, manifests: Sequence[Manifest], *, waiting: Callable[[str], object] = lambda repo: None
) -> Removal:
    """Remove the models, each under the lock of its repo or import; `waiting` hears of one that somebody else works on.

    What is removed is decided under the lock, from what is installed then. First the record of the model becomes one
    of an unfinished removal: a model that is half removed is not installed, and what is left of it can be freed.
    Raises FileError.
    """
    done = []
    places = {m.key: _place(m) for m in manifests}
    for place in sorted(set(places.values())):
        keys = {key for key, other in places.items() if other == place}
        with _locked(root, *place, waiting=waiting):
            done.append(_remove(root, [m for m in read_manifests(root) if m.key in keys]))
    return Removal(
        tuple(m for removal in done for m in removal.manifests),
        tuple(path for removal in done for path in removal.files),
        tuple(path for removal in done for path in removal.shared),
        sum(removal.freed_bytes for removal in done),
    )


def _place(manifest: Manifest) -> tuple[str, str, str]:
    """(repo, key of the import, name): what is locked to remove it, and what it is called."""
    key = manifest.source.key if manifest.source else ""
    return manifest.repo or ("" if key else LOCAL), key, manifest.repo or (manifest.ref if key else "")


@contextmanager
def _locked(root: Path, repo: str, key: str, name: str, *, waiting: Callable[[str], object]) -> Iterator[None]:
    said = once(lambda: waiting(name))
    with ExitStack() as locks:
        if repo:
            locks.enter_context(repo_lock(root, repo, waiting=said))
        if key:
            locks.enter_context(import_lock(root, key, waiting=said))
        yield


def _remove(root: Path, manifests: Sequence[Manifest]) -> Removal:
    removal = plan_removal(root, manifests)
    for manifest in manifests:
        if manifest.added:
            remove_manifest(root, manifest)
        else:
            begin_removal(root, manifest)
    remove_files(root, removal.files)
    for manifest in manifests:
        if manifest.source and not is_named(root, manifest.folder):
            remove_tree(root, root / manifest.folder)
        if manifest.repo:
            drop_refs(root, manifest.repo)
        if not manifest.added:
            forget_unfinished(root, manifest.key)
        with contextlib.suppress(OSError, FileError):
            inside(root, used_path(root, manifest.key)).unlink(missing_ok=True)
    return removal


def is_named(root: Path, folder: str) -> bool:
    """Does an installed model live in this folder, relative to the root?"""
    return any(m.folder == folder for m in read_manifests(root))


def remove_tree(root: Path, folder: Path) -> int:
    """Remove a folder of the store, or whatever is in its place, and what became empty above it; returns the bytes that
    were freed. Raises FileError."""
    with our_io_error(folder, verb="remove"):
        if folder.is_symlink() or not is_folder(folder):
            freed = freed_bytes([folder])
            inside(root, folder).unlink(missing_ok=True)
        else:
            freed = freed_bytes(_below(folder))
            shutil.rmtree(inside(root, folder))
    _prune(folder.parent, root)
    return freed


def _below(folder: Path) -> list[Path]:
    """The files and links in a folder and below."""
    return [path for path in listed(folder, "**/*") if path.is_symlink() or not is_folder(path)]


def remove_files(root: Path, paths: Iterable[Path]) -> None:
    """Raises FileError."""
    for path in paths:
        with our_io_error(path, verb="remove"):
            inside(root, path).unlink(missing_ok=True)
        _prune(path.parent, root)


def drop_refs(root: Path, repo: str) -> None:
    """Remove the refs of commits that are no longer here, and folders that became empty. Raises FileError."""
    home = repo_dir(root, repo)
    for ref in listed(home / "refs"):
        try:
            commit = read_text(ref, limit_bytes=1000).strip()
        except FileError:
            continue
        if not is_folder(home / "snapshots" / commit):
            with our_io_error(ref, verb="remove"):
                inside(root, ref).unlink(missing_ok=True)
    for folder in (home / "refs", home / "snapshots"):
        _prune(folder, root)


def _is_there(path: Path) -> bool:
    """A file or link, also one that leads nowhere."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _prune(folder: Path, root: Path) -> None:
    """Remove folders that became empty, up to the root."""
    while folder != root and root in folder.parents:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = folder.parent
