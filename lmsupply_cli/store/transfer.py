"""One content from the Hub to the disk: fetched once, resumed, and named only when the bytes on the disk are right."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from lmsupply_cli.errors import HubError
from lmsupply_cli.files import our_io_error, size_of
from lmsupply_cli.hub.client import OpenFile
from lmsupply_cli.hub.retry import RetryPolicy, Transient
from lmsupply_cli.hub.tree import RepoFile
from lmsupply_cli.store.digest import file_matches
from lmsupply_cli.store.layout import content_name, file_path, inside, part_path, snapshot_dir
from lmsupply_cli.store.lock import content_lock

OpenAt = Callable[[int], AbstractContextManager[OpenFile]]
_KEPT = "free some space or choose another folder with `cache_dir`, then try again; the download will resume"
_TRIES = 2  # downloads of a content whose digest is not the one that the Hub names


class Stopped(Exception):
    """The pull was given up; parts stay."""


class _Mismatch(Transient):
    """The server announces another size than the listing."""


@dataclass(frozen=True)
class Transfer:
    """One file on its way. `copies`: where the store may have the same content; `on_bytes` hears the bytes gained,
    negative ones where a start had to be thrown away; `on_wait`: another pull fetches this content."""

    root: Path
    repo: str
    commit: str
    file: RepoFile
    open_at: OpenAt
    copies: Callable[[], Iterable[Path]]
    policy: RetryPolicy
    stop: Event
    on_bytes: Callable[[int], None]
    on_wait: Callable[[], None]

    def run(self) -> None:
        """Bring the file to its place. Raises HubError, FileError, Stopped."""
        name = content_name(self.file, self.repo, self.commit)
        with content_lock(self.root, name, waiting=self._waiting):
            if not self._copied():
                self._fetched()

    @property
    def part(self) -> Path:
        return inside(self.root, part_path(self.root, self.file, self.repo, self.commit))

    @property
    def target(self) -> Path:
        snapshot = snapshot_dir(self.root, self.repo, self.commit)
        return inside(self.root, file_path(snapshot, self.file.target))

    def _waiting(self) -> None:
        self.on_wait()
        self._check()

    def _check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _is_right(self, path: Path) -> bool:
        return file_matches(path, self.file.digest, self.file.size_bytes, on_bytes=lambda _: self._check())

    def _copied(self) -> bool:
        """Take the content from where the store has it: as another name of the same file, or as a copy."""
        if not self.file.digest:
            return False
        for source in self.copies():
            if size_of(source) != self.file.size_bytes:
                continue
            beside = self.part.with_name(f"{self.part.stem}.{uuid.uuid4().hex}.tmp")
            try:
                beside.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(source, beside, follow_symlinks=False)
                except (OSError, NotImplementedError):
                    shutil.copyfile(source, beside)
                if self._is_right(beside):
                    self._place(beside)
                    self.part.unlink(missing_ok=True)
                    self.on_bytes(self.file.size_bytes)
                    return True
            except OSError:  # it went meanwhile, or the disk is full: then it is fetched
                continue
            finally:
                with contextlib.suppress(OSError):
                    beside.unlink(missing_ok=True)
        return False

    def _fetched(self) -> None:
        """A content whose digest is wrong is fetched once more from the first byte."""
        with our_io_error(self.part):
            self.part.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            self._download()
            with our_io_error(self.part):
                if self._is_right(self.part):
                    self._place(self.part)
                    return
                self.part.unlink(missing_ok=True)
            self.on_bytes(-self.file.size_bytes)
        raise HubError(
            f"{self.file.path} arrived damaged twice: its checksum is not the one that the Hub names",
            hint="the download was modified in transit or the repository is corrupt; try another network",
        )

    def _place(self, source: Path) -> None:
        target = self.target
        with our_io_error(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)

    def _download(self) -> None:
        """Bring the part to its full size."""
        size = self.file.size_bytes
        have = max(0, size_of(self.part))
        if have > size:
            with our_io_error(self.part):
                self.part.unlink()
            self.on_bytes(-have)
            have = 0
        tries = mismatches = 0
        with PartFile(self.part) as out:
            while have < size:
                before = have
                try:
                    with self.open_at(have) as source:
                        have = before = self._start(out, source, have)
                        for chunk in source.chunks:
                            self._check()
                            if have + len(chunk) > size:
                                raise HubError(
                                    f"{self.file.path} is longer than the {size:,} bytes that were announced"
                                )
                            out.write(chunk)
                            have += len(chunk)
                            self.on_bytes(len(chunk))
                    if have < size:
                        raise Transient(f"{self.file.path} ended after {have:,} of {size:,} bytes", hint="run it again")
                except Transient as error:
                    self._check()
                    mismatches += isinstance(error, _Mismatch)
                    if mismatches == _TRIES:
                        raise HubError(error.message, hint=error.hint) from error
                    tries = (
                        0 if have - before >= self.policy.useful_bytes else tries
                    )  # what makes progress is not given up
                    self.policy.wait(error, tries)
                    tries += 1
            out.flush()

    def _start(self, out: PartFile, source: OpenFile, have: int) -> int:
        """The byte that the answer begins with: `have`, or 0 where the server did not honor the range."""
        size = self.file.size_bytes
        if source.total_bytes not in (None, size):  # the next try may come to another server
            raise _Mismatch(
                f"{self.file.path} should have {size:,} bytes, the server offers {source.total_bytes:,}",
                hint="the listing is stale, or something in between answers for the Hub; run it again",
            )
        if source.start == have:
            return have
        if source.start != 0:
            raise Transient(f"{self.file.path} was sent from byte {source.start}, which nobody asked for")
        out.truncate()
        self.on_bytes(-have)
        return 0


class PartFile:
    """A file to append to, unbuffered: what was received survives a kill. Methods raise FileError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with our_io_error(path):
            self._file = path.open("ab", buffering=0)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with our_io_error(self.path, hint=_KEPT):
            while view:
                view = view[self._file.write(view) :]

    def truncate(self) -> None:
        with our_io_error(self.path):
            self._file.truncate(0)

    def flush(self) -> None:
        with our_io_error(self.path):
            os.fsync(self._file.fileno())
