"""What unfinished pulls, imports and removals left in the store: listed by size, and freed.

Ours are the files that a record of an unfinished pull or removal names, parts, temporary files, folders of imports that
no installed model lives in, and in a store of our own everything below a repo that no installed model needs. A folder with `blobs` was made by another tool, and in the
user's Hugging Face cache only what our own records name is ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.addresses import is_repo
from lmsupply_cli.errors import FileError
from lmsupply_cli.files import is_folder, listed, resolved, size_of
from lmsupply_cli.hub.tree import RepoFile
from lmsupply_cli.locks import Busy, locked
from lmsupply_cli.store.layout import (
    OURS,
    content_name,
    import_key,
    imported_dir,
    inside,
    manifests_dir,
    parts_dir,
    repo_dir,
    unfinished_dir,
)
from lmsupply_cli.store.lock import (
    content_is_busy,
    content_lock,
    import_is_busy,
    import_lock,
    records_lock,
    repo_is_busy,
    repo_lock,
)
from lmsupply_cli.store.manifest import Manifest, read_manifests, read_unfinished
from lmsupply_cli.store.remove import drop_refs, freed_bytes, is_named, remove_files, remove_tree


@dataclass(frozen=True)
class Leftovers:
    """`files` by repo; `imports`: folders and records, by the name of the model; `parts` and `temporary` belong to none.
    `busy`: repos and imports that are still worked on."""

    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    imports: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    parts: tuple[Path, ...] = ()
    temporary: tuple[Path, ...] = ()
    busy: tuple[str, ...] = ()
    size_bytes: int = 0

    @property
    def any(self) -> bool:
        """Is there anything to remove?"""
        return bool(self.files or self.imports or self.parts or self.temporary)


def find_leftovers(root: Path) -> Leftovers:
    """Nothing is changed. Files of a pull or removal that still runs are left out."""
    installed, unfinished = read_manifests(root), [m for m in read_unfinished(root) if not m.added]
    repos = sorted({m.repo for m in unfinished if m.repo} | set(_repos_without_owner(root)))
    busy = [repo for repo in repos if repo_is_busy(root, repo)]
    files = {repo: tuple(_left_of(root, repo, installed, unfinished)) for repo in repos if repo not in busy}
    in_use = {_part_name(m, path) for m in unfinished if m.repo in busy and not m.source for path in m.files}
    parts = [
        part
        for part in listed(parts_dir(root))
        if _content(part) not in in_use and not content_is_busy(root, _content(part))
    ]
    records = [p for folder in _record_dirs(root) for p in listed(folder, ".*.tmp")]
    imports = _imports_left(root, installed, unfinished)
    busy += sorted(name for name, (key, _) in imports.items() if key and import_is_busy(root, key))
    imported = {name: paths for name, (_, paths) in imports.items() if name not in busy}
    damaged = [path for path in listed(unfinished_dir(root), "*.json") if path.stem not in {m.key for m in unfinished}]
    temporary = [*records, *damaged]
    every = [path for found in (*files.values(), *imported.values()) for path in found] + parts + temporary
    below = [one for path in every for one in (listed(path, "**/*") if _is_real_folder(path) else [path])]
    return Leftovers(
        files={repo: found for repo, found in files.items() if found},
        imports=imported,
        parts=tuple(parts),
        temporary=tuple(temporary),
        busy=tuple(busy),
        size_bytes=freed_bytes(path for path in below if size_of(path) >= 0 or path.is_symlink()),
    )


def unfinished_repos(root: Path) -> list[str]:
    """Repos of which something unfinished is here, whether it still runs or not."""
    return sorted({m.repo for m in read_unfinished(root) if m.repo} | set(_repos_without_owner(root)))


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
    for name, left in found.imports.items():
        try:
            freed += _free_import(root, left)
        except Busy:
            busy.append(name)
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
            freed += remove_tree(root, path)
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


def _imports_left(
    root: Path, installed: Sequence[Manifest], unfinished: Sequence[Manifest]
) -> dict[str, tuple[str, tuple[Path, ...]]]:
    """Name → (key of the import, "" for what is none; its folders and records, the records last)."""
    homes = {root / m.folder for m in installed if m.source}
    names = {m.source.key: m.ref for m in unfinished if m.source}
    found: dict[str, tuple[str, list[Path]]] = {}
    for folder in listed(imported_dir(root)):
        if folder not in homes:
            key = import_key(folder.name)
            found.setdefault(names.get(key, folder.name), (key, []))[1].append(folder)
    for m in unfinished:
        if m.source:
            found.setdefault(names[m.source.key], (m.source.key, []))[1].append(unfinished_dir(root) / f"{m.key}.json")
    return {name: (key, tuple(paths)) for name, (key, paths) in found.items()}


def _free_import(root: Path, paths: Sequence[Path]) -> int:
    """Under the lock of the import: what became installed meanwhile stays. Raises Busy, FileError."""
    folders = [path for path in paths if path.parent == imported_dir(root)]
    records = [path for path in paths if path.parent == unfinished_dir(root)]
    keys = {import_key(folder.name) for folder in folders} | {
        m.source.key for m in read_unfinished(root) if m.source and unfinished_dir(root) / f"{m.key}.json" in records
    }
    freed = 0
    with ExitStack() as locks:
        for key in sorted(keys - {""}):
            locks.enter_context(import_lock(root, key))
        for folder in folders:
            if not is_named(root, folder.relative_to(root).as_posix()):
                freed += remove_tree(root, folder)
        with records_lock(root):  # last: what a kill leaves is still known
            freed += freed_bytes(records)
            remove_files(root, records)
    return freed


def _record_dirs(root: Path) -> tuple[Path, ...]:
    return manifests_dir(root), unfinished_dir(root), root / OURS


def _left_of(root: Path, repo: str, installed: Sequence[Manifest], unfinished: Sequence[Manifest]) -> Iterator[Path]:
    kept = {path for m in installed if m.repo == repo for path in m.paths(root)}
    mine = [m for m in unfinished if m.repo == repo and not m.source]
    named = [path for m in unfinished if m.repo == repo for path in m.paths(root) if not _is_imported(root, path)]
    if _is_ours(root, repo_dir(root, repo)):
        named += listed(repo_dir(root, repo) / "snapshots", "**/*")
    for path in dict.fromkeys(named):
        if path not in kept and (path.is_symlink() or size_of(path) >= 0):
            yield path
    yield from (unfinished_dir(root) / f"{m.key}.json" for m in mine)


def _is_imported(root: Path, path: Path) -> bool:
    return imported_dir(root) in path.parents


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
