"""One pull of a repo at a time, across processes: the second waits and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lmsupply_cli.errors import HubError


@contextmanager
def pull_lock(root: Path, repo: str, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of `repo`; `waiting` is called once where another process has it. Raises HubError."""
    from filelock import FileLock, Timeout

    folder = root / ".lmsupply" / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{repo.replace('/', '--')}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            while not lock.is_locked:  # in short waits, so that Ctrl-C is heard
                try:
                    lock.acquire(timeout=0.2)
                except Timeout:
                    continue
    except OSError as error:
        raise HubError(
            f"cannot write to the store {root}: {error.strerror}", hint="choose another place with --cache-dir"
        ) from error
    try:
        yield
    finally:
        lock.release()
