"""Temporary folders in the store. One that a killed process left behind goes when the next one is made."""

from __future__ import annotations

import shutil
import uuid
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lmsupply_cli.errors import LmsupplyError

if TYPE_CHECKING:
    from filelock import BaseFileLock


class TemporaryFolder:
    """An empty folder, there until it is closed or the process ends. Its lock says that it is in use."""

    def __init__(self, root: Path) -> None:
        """Raises LmsupplyError where the store cannot be written to."""
        from filelock import FileLock

        place = root / ".lmsupply" / "temporary"
        self.path = place / uuid.uuid4().hex
        try:
            place.mkdir(parents=True, exist_ok=True)
            _sweep(place)
            lock = FileLock(_lock_of(self.path))
            lock.acquire(timeout=0)
            self.path.mkdir()
        except OSError as error:
            raise LmsupplyError(
                f"cannot write to the store {root}: {error.strerror}", hint="choose another place with --cache-dir"
            ) from error
        self._close = weakref.finalize(self, _remove, self.path, lock)

    def close(self) -> None:
        """Remove it; a second call does nothing."""
        self._close()


def _sweep(place: Path) -> None:
    from filelock import FileLock, Timeout

    for folder in place.iterdir():
        if not folder.is_dir():
            continue
        lock = FileLock(_lock_of(folder))
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            continue
        _remove(folder, lock)


def _remove(folder: Path, lock: BaseFileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    with suppress(OSError):  # in use by a sweep of another process, which removes it
        _lock_of(folder).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")
