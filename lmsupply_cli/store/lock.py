"""The locks of a store: of a repo while its files change, of an import, of a content while it arrives, of the records
while one is written.

Whoever needs several takes them in this order, so nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from lmsupply_cli.errors import FileError
from lmsupply_cli.locks import is_held, locked
from lmsupply_cli.store.layout import inside, lock_path, repo_dir

LOCAL = "local"  # stands for a repo: the folders that were added


def repo_lock(root: Path, repo: str, *, waiting: Callable[[], object] | None = None) -> AbstractContextManager[None]:
    """Held by every writer of a repo: pull, removal, repair. `waiting` as in `locked`. Raises Busy, FileError."""
    return locked(inside(root, _repo_lock(root, repo)), waiting=waiting)


def repo_is_busy(root: Path, repo: str) -> bool:
    return _is_busy(root, _repo_lock(root, repo))


def import_lock(root: Path, key: str, *, waiting: Callable[[], object] | None = None) -> AbstractContextManager[None]:
    """Held by every writer of the imports of one source in one form. Raises Busy, FileError."""
    return locked(inside(root, _import_lock(root, key)), waiting=waiting)


def import_is_busy(root: Path, key: str) -> bool:
    return _is_busy(root, _import_lock(root, key))


def content_lock(root: Path, name: str, *, waiting: Callable[[], object] | None = None) -> AbstractContextManager[None]:
    """Held by the only writer of a part. Raises Busy, FileError."""
    return locked(inside(root, _content_lock(root, name)), waiting=waiting)


def content_is_busy(root: Path, name: str) -> bool:
    return _is_busy(root, _content_lock(root, name))


def records_lock(root: Path) -> AbstractContextManager[None]:
    """Held for the moment in which a record is written or removed. Raises FileError."""
    return locked(inside(root, lock_path(root, "records")), waiting=lambda: None)


def _is_busy(root: Path, path: Path) -> bool:
    """Behind a link there is no lock of this store."""
    try:
        return is_held(inside(root, path))
    except FileError:
        return False


def _content_lock(root: Path, name: str) -> Path:
    return lock_path(root, f"content-{name}")


def _import_lock(root: Path, key: str) -> Path:
    return lock_path(root, f"import-{key}")


def _repo_lock(root: Path, repo: str) -> Path:
    return lock_path(root, LOCAL if repo == LOCAL else repo_dir(root, repo).name)
