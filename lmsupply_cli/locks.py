"""Locks between processes and threads: by the operating system, or by marker files where its locks do nothing."""

from __future__ import annotations

import errno
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lmsupply_cli.errors import FileError
from lmsupply_cli.files import is_absent, listed, our_io_error

_POLL_S = 0.1
_FOREIGN_S = 86_400  # a marker of another machine says nothing about its process; after a day it is not believed
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class Busy(Exception):
    """Somebody else holds the lock."""


@contextmanager
def locked(path: Path, *, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the lock file `path` in the block. `waiting` is called again and again while somebody else has it, so that
    it may give up by raising; without `waiting` Busy is raised.

    Network and FUSE file systems may grant a lock to everybody. A second try on a lock that is held tells; there marker
    files are used. A lock file that works goes with the lock. Raises Busy, FileError.
    """
    import random

    with ExitStack() as held:
        with our_io_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while (release := _taken(path)) is None:
                if waiting is None:
                    raise Busy(str(path))
                waiting()
                time.sleep(_POLL_S * random.uniform(0.5, 1))
        held.callback(release)
        yield


def once(act: Callable[[], object]) -> Callable[[], None]:
    """`act` for the first call, nothing for the others: for a `waiting` that only says so."""
    left = [act]

    def first() -> None:
        if left:
            left.pop()()

    return first


def is_held(path: Path) -> bool:
    """Does anybody hold the lock file `path`? False if that cannot be found out."""
    if is_absent(path) and not listed(path.parent, f"{path.stem}.*.held"):
        return False
    try:
        with locked(path):
            return False
    except Busy:
        return True
    except FileError:
        return False


def _taken(path: Path) -> Callable[[], None] | None:
    """How to release the lock, or None where somebody has it. Raises OSError."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in _NO_LOCKS:
            raise
        return _marked(path)  # the file system has no locks at all
    if sys.platform == "win32" or _works(path):

        def release() -> None:
            with suppress(OSError):  # Windows keeps what somebody has open
                path.unlink()  # before the release: who opened it meanwhile finds it gone and opens it anew
            lock.release()

        return release
    lock.release()
    return _marked(path)


def _works(path: Path) -> bool:
    """Is a second lock on what is locked refused?"""
    from filelock import FileLock, Timeout

    second = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        second.acquire()
    except Timeout:
        return True
    second.release()
    return False


def _marked(path: Path) -> Callable[[], None] | None:
    """A marker beside the lock file, whose name tells its process. Who finds the marker of another living process
    takes its own back; two that meet both do, and neither holds the lock. So a kill at any moment leaves nothing but
    the marker of a dead process, which anybody may remove."""
    import socket

    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())[:60]
    pid = os.getpid()
    mine = path.with_name(f"{path.stem}.{host}.{pid}.{_started(pid)}.{uuid.uuid4().hex}.held")
    mine.touch(exist_ok=False)
    for other in listed(path.parent, f"{path.stem}.*.held"):
        if other == mine or other.name.count(".") != mine.name.count("."):
            continue
        if _lives(other, host):
            mine.unlink()
            return None
        other.unlink(missing_ok=True)

    def release() -> None:  # the lock file stays: without it the next try would look as if it had been refused
        with suppress(OSError):
            mine.unlink()

    return release


def _lives(marker: Path, host: str) -> bool:
    _, its_host, pid, started, *_ = marker.name.rsplit(".", 5)
    if its_host != host:
        try:
            return time.time() - marker.stat().st_mtime < _FOREIGN_S
        except OSError:
            return False
    if not pid.isdecimal() or _started(int(pid)) != started:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process
        return True
    return True


def _started(pid: int) -> str:
    """When the process started, in ticks since the boot, since numbers of processes come again; "0" where the system
    does not tell, and "gone" for one that is dead and only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return "0"
    return "gone" if fields[0] == b"Z" else fields[19].decode()
