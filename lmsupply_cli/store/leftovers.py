"""What unfinished pulls and removals left in the store: listed by size, and freed.

Ours are the files that a record of an unfinished pull or removal names, parts, temporary files, and in a store of our
own everything below a repo that no installed model needs. A folder with `blobs` was made by another tool, and in the
user's Hugging Face cache only what our own records name is ours.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.addresses import is_repo
from lmsupply_cli.errors import FileError
from lmsupply_cli.files import is_folder, listed, our_io_error, resolved, size_of
from lmsupply_cli.hub.tree import RepoFile
from lmsupply_cli.locks import Busy, locked
from lmsupply_cli.store.layout import (
    OURS,
    content_name,
    inside,
    manifests_dir,
    parts_dir,
    repo_dir,
    unfinished_dir,
)
from lmsupply_cli.store.lock import content_is_busy, content_lock, records_lock, repo_is_busy, repo_lock
from lmsupply_cli.store.manifest import Manifest, read_manifests, read_unfinished
from lmsupply_cli.store.remove import drop_refs, freed_bytes, remove_files


@dataclass(frozen=True)
class Leftovers:
    """`files` by repo; `parts` and `temporary` belong to none. `busy`: repos whose pull or removal still runs."""

    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    parts: tuple[Path, ...] = ()
    temporary: tuple[Path, ...] = ()
    busy: tuple[str, ...] = ()
    size_bytes: int = 0

    @property
    def any(self) -> bool:
        """Is there anything to remove?"""
        return bool(self.files or self.parts or self.temporary)


def find_leftovers(root: Path) -> Leftovers:
    """Nothing is changed. Files of a pull or removal that still runs are left out."""
    installed, unfinished = read_manifests(root), [m for m in read_unfinished(root) if not m.added]
    repos = sorted({m.repo for m in unfinished} | set(_repos_without_owner(root)))
    busy = [repo for repo in repos if repo_is_busy(root, repo)]
    files = {repo: tuple(_left_of(root, repo, installed, unfinished)) for repo in repos if repo not in busy}
    in_use = {_part_name(m, path) for m in unfinished if m.repo in busy for path in m.files}
    parts = [
        part
        for part in listed(parts_dir(root))
        if _content(part) not in in_use and not content_is_busy(root, _content(part))
    ]
    records = [*listed(manifests_dir(root), ".*.tmp"), *listed(unfinished_dir(root), ".*.tmp")]
    damaged = [path for path in listed(unfinished_dir(root), "*.json") if path.stem not in {m.key for m in unfinished}]
    temporary = [*records, *damaged]
    every = [path for found in files.values() for path in found] + parts + temporary
    below = [one for path in every for one in (listed(path, "**/*") if _is_real_folder(path) else [path])]
    return Leftovers(
        {repo: found for repo, found in files.items() if found},
        tuple(parts),
        tuple(temporary),
        tuple(busy),
        freed_bytes(path for path in below if size_of(path) >= 0 or path.is_symlink()),
    )


def unfinished_repos(root: Path) -> list[str]:
    """Repos of which something unfinished is here, whether it still runs or not."""
    return sorted({m.repo for m in read_unfinished(root) if not m.added} | set(_repos_without_owner(root)))


def free_leftovers(root: Path) -> tuple[int, tuple[str, ...]]:
    """Remove them, each under its lock: (bytes freed, repos that are busy). Raises FileError."""
    found = find_leftovers(root)
    freed, busy = 0, list(found.busy)
    for repo in found.files:
        try:
            with repo_lock(root, repo):
                freed += _free_repo(root, repo)
        except Busy:
            busy.append(repo)
    for part in found.parts:
        with contextlib.suppress(Busy), content_lock(root, _content(part)):
            freed += freed_bytes([part])
            remove_files(root, [part])
    files = [path for path in found.temporary if not _is_real_folder(path)]
    if files:
        with records_lock(root):
            freed += freed_bytes(files)
            remove_files(root, files)
    for path in found.temporary:
        if _is_real_folder(path):
            freed += freed_bytes(listed(path, "**/*"))
            with our_io_error(path, verb="remove"):
                shutil.rmtree(inside(root, path))
    for lock in listed(root / OURS / "locks", "*.lock"):
        with contextlib.suppress(Busy, FileError), locked(inside(root, lock)):  # it goes with the lock
            pass
    return freed, tuple(busy)


def _free_repo(root: Path, repo: str) -> int:
    """Under the lock of the repo: decided anew, from what is installed now."""
    unfinished = [m for m in read_unfinished(root) if m.repo == repo]
    paths = list(_left_of(root, repo, read_manifests(root), unfinished))
    freed = freed_bytes(paths)
    records = [path for path in paths if path.parent == unfinished_dir(root)]
    remove_files(root, [path for path in paths if path not in records])
    drop_refs(root, repo)
    with records_lock(root):  # last: what a kill leaves is still known
        remove_files(root, records)
    return freed


def _left_of(root: Path, repo: str, installed: Sequence[Manifest], unfinished: Sequence[Manifest]) -> Iterator[Path]:
    kept = {path for m in installed if m.repo == repo for path in m.paths(root)}
    mine = [m for m in unfinished if m.repo == repo]
    named = [path for m in mine for path in m.paths(root)]
    if _is_ours(root, repo_dir(root, repo)):
        named += listed(repo_dir(root, repo) / "snapshots", "**/*")
    for path in dict.fromkeys(named):
        if path not in kept and (path.is_symlink() or size_of(path) >= 0):
            yield path
    yield from (unfinished_dir(root) / f"{m.key}.json" for m in mine)


def _repos_without_owner(root: Path) -> Iterator[str]:
    """Repos in our own store with files that no installed model needs."""
    kept = {path for m in read_manifests(root) if not m.added for path in m.paths(root)}
    for home in listed(root, "models--*"):
        repo = home.name.removeprefix("models--").replace("--", "/", 1)
        if is_repo(repo) and _is_ours(root, home):
            files = (path for path in listed(home / "snapshots", "**/*") if not is_folder(path) or path.is_symlink())
            if any(path not in kept for path in files):
                yield repo


def _is_ours(root: Path, home: Path) -> bool:
    return (
        not is_folder(home / "blobs")
        and not home.is_symlink()
        and resolved(root) != resolved(paths.hugging_face_cache())
    )


def _is_real_folder(path: Path) -> bool:
    """A link to a folder is a file of ours: it is removed, and what it leads to is not."""
    return is_folder(path) and not path.is_symlink()


def _content(part: Path) -> str:
    """Of `CONTENT.part`, or of a copy on its way, `CONTENT.RANDOM.tmp`."""
    return part.name.partition(".")[0]


def _part_name(manifest: Manifest, path: str) -> str:
    record = manifest.files[path]
    return content_name(RepoFile(path, record.size_bytes, record.digest), manifest.repo, manifest.commit)
