"""Keep from stderr what the engine's guidance prints there: it raises the same as an error."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_STDERR = 2
_WARNING = b"Warning: Parser Error"


@contextmanager
def without_warnings() -> Iterator[None]:
    """What others print meanwhile comes out at the end. A few system calls: microseconds."""
    try:
        shown = os.dup(_STDERR)
    except OSError:  # a process that has none
        yield
        return
    with _held() as held:
        os.dup2(held.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(shown, _STDERR)
            os.close(shown)
            if held.tell():
                held.seek(0)
                rest = [line for line in held.read().splitlines(keepends=True) if not line.startswith(_WARNING)]
                os.write(_STDERR, b"".join(rest))


def _held() -> IO[bytes]:
    if hasattr(os, "memfd_create"):  # quicker than a file
        return os.fdopen(os.memfd_create("stderr"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
