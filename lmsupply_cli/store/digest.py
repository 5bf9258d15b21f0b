"""The digests that a Hub names files by, and that verify compares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmsupply_cli.events import FileProgress, ProgressListener

_BLOCK = 1 << 20


def digest_of(path: Path, kind: str = "sha256", *, on_bytes: Callable[[int], object] = lambda _: None) -> str:
    """`KIND:…` of the file as it is on the disk. `kind`: `sha256`, or `git-sha1`, git's name of a blob. `on_bytes` hears
    how many bytes were read, and may raise. Raises OSError for a file that cannot be read."""
    digest: Any = hashlib.sha256()
    if kind == "git-sha1":  # git hashes a header before the content
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            on_bytes(len(block))
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"


def file_matches(
    path: Path, expected: str, size_bytes: int, *, on_bytes: Callable[[int], object] = lambda _: None
) -> bool:
    """Has the file, as it is on the disk, this size and digest? Any content has the digest "", but it is read.
    `on_bytes` and errors as in `digest_of`."""
    if not path.is_file() or path.stat().st_size != size_bytes:
        return False
    found = digest_of(path, expected.partition(":")[0] or "sha256", on_bytes=on_bytes)
    return not expected or found == expected


class ReadProgress:
    """Tells `listener` how far the files of `sizes` (by their name) have been read."""

    def __init__(self, sizes: Mapping[str, int], listener: ProgressListener) -> None:
        self._sizes, self._listener = sizes, listener
        self._total, self._read = sum(sizes.values()), 0

    def of(self, name: str) -> Callable[[int], None]:
        """The callback for the bytes read from one file."""
        here = 0

        def read(count: int) -> None:
            nonlocal here
            here += count
            self._read += count
            self._listener.file(FileProgress(name, here, self._sizes[name], self._read, self._total, "read"))

        return read
