"""One file from the Hub to the disk: resumed, hashed while it is written, named only when it is right."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event

from lmsupply_cli.errors import HubError
from lmsupply_cli.hub.client import OpenFile
from lmsupply_cli.hub.retry import RetryPolicy, Transient
from lmsupply_cli.hub.tree import RepoFile
from lmsupply_cli.store.digest import Digest

OpenAt = Callable[[int], AbstractContextManager[OpenFile]]


class Stopped(Exception):
    """The pull was given up; parts stay."""


def transfer(
    file: RepoFile,
    *,
    part: Path,
    target: Path,
    open_at: OpenAt,
    policy: RetryPolicy,
    stop: Event,
    on_bytes: Callable[[int], None],
) -> None:
    """Fetch what is missing of `part`, check it, and make it `target`.

    A digest that does not match is fetched once more from the first byte. `on_bytes` hears the
    bytes gained, negative ones where a start had to be thrown away. Raises HubError, Stopped.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in (1, 2):
        digest = _download(file, part, open_at, policy, stop, on_bytes)
        if digest.matches:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            return
        part.unlink()
        on_bytes(-file.size_bytes)
        if attempt == 2:
            raise HubError(
                f"{file.path} arrived damaged twice: its digest is not the one that the Hub names",
                hint="something on the way changes files, or the repo is damaged; try later or elsewhere",
            )


def _download(
    file: RepoFile, part: Path, open_at: OpenAt, policy: RetryPolicy, stop: Event, on_bytes: Callable[[int], None]
) -> Digest:
    """Bring `part` to its full size, with the digest of all its bytes."""
    digest = Digest(file.digest, file.size_bytes)
    have = part.stat().st_size if part.exists() else 0
    if have > file.size_bytes:
        part.unlink()
        on_bytes(-have)
        have = 0
    if have:
        digest.update_from(part)
    tries = 0
    with _opened(part) as out:
        while have < file.size_bytes:
            before = have
            try:
                with open_at(have) as source:
                    if source.total_bytes not in (None, file.size_bytes):
                        raise HubError(
                            f"{file.path} should have {file.size_bytes:,} bytes, the server offers {source.total_bytes:,}",
                            hint="the listing is stale, or something in between answers for the Hub; run it again",
                        )
                    if source.start != have:  # the server did not honour the range
                        out.seek(0)
                        out.truncate()
                        digest.reset()
                        on_bytes(-have)
                        have = before = 0
                        if source.start != 0:
                            raise Transient(f"{file.path} was sent from byte {source.start}, which nobody asked for")
                    for chunk in source.chunks:
                        if stop.is_set():
                            raise Stopped
                        if have + len(chunk) > file.size_bytes:
                            raise HubError(
                                f"{file.path} is longer than the {file.size_bytes:,} bytes that were announced"
                            )
                        _write(out, chunk, file.path)
                        digest.update(chunk)
                        have += len(chunk)
                        on_bytes(len(chunk))
                if have < file.size_bytes:
                    raise Transient(
                        f"{file.path} ended after {have:,} of {file.size_bytes:,} bytes", hint="run it again"
                    )
            except Transient as error:
                if stop.is_set():
                    raise Stopped from error
                tries = 0 if have > before else tries  # what makes progress is not given up
                policy.wait(error, tries)
                tries += 1
        out.flush()
        os.fsync(out.fileno())
    return digest


def _opened(part: Path) -> PartFile:
    try:
        return PartFile(part)
    except OSError as error:
        raise HubError(
            f"cannot write {part}: {error.strerror}", hint="choose another place with --cache-dir"
        ) from error


class PartFile:
    """A file to append to, unbuffered: what was received survives a kill."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def seek(self, at: int) -> None:
        self._file.seek(at)

    def truncate(self) -> None:
        self._file.truncate()

    def flush(self) -> None:
        self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()


def _write(out: PartFile, data: bytes, path: str) -> None:
    try:
        out.write(data)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HubError(
                f"the disk is full in the middle of {path}", hint="free some space and run it again: the part is kept"
            ) from error
        raise HubError(
            f"cannot write {path}: {error.strerror}", hint="choose another place with --cache-dir"
        ) from error
