"""What removing a model would free, and doing it: never what another model shares, never outside the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lmsupply_cli.errors import FileError
from lmsupply_cli.files import is_folder, listed, our_io_error, read_text
from lmsupply_cli.locks import once
from lmsupply_cli.store.layout import inside, repo_dir, used_path
from lmsupply_cli.store.lock import LOCAL, repo_lock
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
    """A folder that was added is forgotten, and its files stay where they are."""
    going = {m.key for m in manifests}
    kept = {path for m in read_manifests(root) if m.key not in going and not m.added for path in m.paths(root)}
    files = dict.fromkeys(path for m in manifests if not m.added for path in m.paths(root))
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
    """Remove the models, each under the lock of its repo; `waiting` hears of a repo that somebody else works on.

    What is removed is decided under the lock, from what is installed then. First the record of the model becomes one
    of an unfinished removal: a model that is half removed is not installed, and what is left of it can be freed.
    Raises FileError.
    """
    done = []
    for repo in sorted({m.repo for m in manifests}):
        with repo_lock(root, repo or LOCAL, waiting=once(lambda repo=repo: waiting(repo))):  # type: ignore[misc]
            keys = {m.key for m in manifests if m.repo == repo}
            removal = plan_removal(root, [m for m in read_manifests(root) if m.key in keys])
            for manifest in removal.manifests:
                if manifest.added:
                    remove_manifest(root, manifest)
                else:
                    begin_removal(root, manifest)
            remove_files(root, removal.files)
            for manifest in removal.manifests:
                if not manifest.added:
                    drop_refs(root, manifest.repo)
                    forget_unfinished(root, manifest.key)
                with contextlib.suppress(OSError, FileError):
                    inside(root, used_path(root, manifest.key)).unlink(missing_ok=True)
            done.append(removal)
    return Removal(
        tuple(m for removal in done for m in removal.manifests),
        tuple(path for removal in done for path in removal.files),
        tuple(path for removal in done for path in removal.shared),
        sum(removal.freed_bytes for removal in done),
    )


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
