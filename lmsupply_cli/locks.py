"""Locks between processes and threads: by the operating system, or by marker files where its locks do nothing."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lmsupply_cli.files import our_io_error

if TYPE_CHECKING:
    from filelock import BaseFileLock

_POLL_S = 0.1
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class Busy(Exception):
    """Somebody else holds the lock."""


@contextmanager
def locked(path: Path, *, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the lock file `path` in the block. `waiting` is called once where somebody else has it, and then it is
    waited for, in short steps, so that Ctrl-C is heard; without `waiting` Busy is raised.

    Network and FUSE file systems may grant a lock to everybody. A second try on a lock that is held tells; there a
    marker file with the process's number is used, which dies with its process. The lock file goes with the lock.
    Raises Busy, FileError.
    """
    with ExitStack() as held:
        with our_io_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while (lock := _taken(path)) is None:
                if waiting is None:
                    raise Busy(str(path))
                waiting()
                waiting = _nothing
                time.sleep(_POLL_S)
        held.callback(lock.release)
        held.callback(_unlink, path)  # before the release: who opened it meanwhile finds it gone and opens it anew
        yield


def is_held(path: Path) -> bool:
    """Does anybody hold the lock file `path`? False where that cannot be found out."""
    from lmsupply_cli.errors import FileError

    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except Busy:
        return True
    except FileError:
        return False


def _nothing() -> None:
    pass


def _unlink(path: Path) -> None:
    with suppress(OSError):  # Windows keeps what somebody has open
        path.unlink()


def _taken(path: Path) -> BaseFileLock | None:
    """The lock, or None where somebody has it. Raises OSError."""
    from filelock import FileLock, SoftFileLock, Timeout

    try:
        lock: BaseFileLock = FileLock(path, timeout=0, fallback_to_soft=False)
        try:
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            if isinstance(error, Timeout) or getattr(error, "errno", errno.ENOSYS) not in _NO_LOCKS:
                raise
            return _marker(SoftFileLock, path)  # the file system has no locks at all
        if _works(path):
            return lock
        lock.release()
        return _marker(SoftFileLock, path)
    except Timeout:
        return None


def _marker(soft: type[BaseFileLock], path: Path) -> BaseFileLock:
    lock = soft(path.with_suffix(".held"), timeout=0)
    lock.acquire()
    return lock


def _works(path: Path) -> bool:
    """Is a second lock on what is locked refused?"""
    from filelock import FileLock, Timeout

    second = FileLock(path, timeout=0)
    try:
        second.acquire()
    except Timeout:
        return True
    second.release()
    return False
