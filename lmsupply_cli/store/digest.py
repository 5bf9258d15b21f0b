"""The digests that a Hub names files by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


def file_matches(path: Path, expected: str, size_bytes: int, *, on_block: Callable[[], object] = lambda: None) -> bool:
    """Has the file, as it is on the disk, this size and digest? `on_block` is called now and then, and may raise.

    `expected`: `sha256:…` (large files), `git-sha1:…` (git's name of a blob), or "", which any content has.
    Raises OSError for a file that cannot be read.
    """
    if not path.is_file() or path.stat().st_size != size_bytes:
        return False
    kind, _, wanted = expected.partition(":")
    digest: Any = hashlib.sha256()
    if kind == "git-sha1":  # git hashes a header before the content
        digest = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    read = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            on_block()
            digest.update(block)
            read += len(block)
    return read == size_bytes and (not expected or digest.hexdigest() == wanted)
