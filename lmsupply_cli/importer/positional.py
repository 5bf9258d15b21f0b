"""Parts of source files, read at their place and not mapped: what is mapped counts as memory in use, and a file that gets
shorter would end the program. A file that changed since it was opened is refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import reason_of
from lmsupply_cli.foreign import plain

Bytes = NDArray[np.uint8]
Stamp = tuple[int, int]  # size in bytes, time of change in ns
_MOST_AT_ONCE = 1 << 30  # bytes that one read may ask for on every system


def stamp_of(found: os.stat_result) -> Stamp:
    """Changes when the file does."""
    return found.st_size, found.st_mtime_ns


def stamp_at(path: Path) -> Stamp:
    """Raises ModelFilesError."""
    with _translated(path):
        return stamp_of(path.stat())


def check_unchanged(path: Path, stamp: Stamp) -> None:
    """Raises ModelFilesError."""
    if stamp_at(path) != stamp:
        raise _changed(path)


def read_at(path: Path, stamp: Stamp, name: str, offset: int, size: int) -> Bytes:
    """`size` bytes at `offset`. `name`: of the tensor, for errors. Raises ModelFilesError."""
    return read_strided(path, stamp, name, (offset,), size).reshape(size)


def read_strided(path: Path, stamp: Stamp, name: str, offsets: Iterable[int], size: int) -> Bytes:
    """[offsets, size]: `size` bytes at each offset. Raises ModelFilesError."""
    places = list(offsets)
    data = np.empty((len(places), size), np.uint8)
    with _translated(path), path.open("rb", buffering=0) as file:
        if stamp_of(os.fstat(file.fileno())) != stamp:
            raise _changed(path)
        for place, row in zip(places, data, strict=True):
            file.seek(place)
            if not _fill(file, row.data):
                raise ModelFilesError(
                    f"{path} ends within the tensor {plain(name)}",
                    hint="the file is damaged or incomplete; download it again",
                )
    return data


def _changed(path: Path) -> ModelFilesError:
    return ModelFilesError(f"{path} changed while it was read", hint="try again when it is complete")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelFilesError(f"cannot read {path}: {reason_of(error)}") from error


def _fill(file: Any, into: memoryview) -> bool:
    """False if the file ends before. Raises OSError."""
    done = 0
    while done < len(into):
        got = file.readinto(into[done : done + _MOST_AT_ONCE])
        if not got:
            return False
        done += got
    return True
