"""The digests that a Hub names files by, computed while bytes pass."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


class Digest:
    """For `sha256:…` (large files) or `git-sha1:…` (git's name of a blob); "" expects nothing."""

    def __init__(self, expected: str, size_bytes: int) -> None:
        self._expected, self._size = expected, size_bytes
        self.reset()

    def reset(self) -> None:
        self._hash: Any = hashlib.sha256()
        if self._expected.startswith("git-sha1:"):  # git hashes a header before the content
            self._hash = hashlib.sha1(b"blob %d\0" % self._size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def update_from(self, path: Path) -> None:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                self.update(block)

    @property
    def matches(self) -> bool:
        return not self._expected or self._hash.hexdigest() == self._expected.partition(":")[2]


def file_matches(path: Path, expected: str, size_bytes: int) -> bool:
    """Has the file this size and digest?"""
    if not path.is_file() or path.stat().st_size != size_bytes:
        return False
    digest = Digest(expected, size_bytes)
    digest.update_from(path)
    return digest.matches
