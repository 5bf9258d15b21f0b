"""The bytes of a protobuf message, without its library: fields, and nothing of what they mean."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

Buffer = mmap.mmap | memoryview

_NAME_BYTES = 4096  # no tensor, file or operator has a longer name


def walk(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field, first byte, last byte + 1) of each length-delimited field; numbers are passed over.

    Raises ValueError if the bytes are no message.
    """
    at = start
    while at < end:
        key, at = varint(data, at)
        kind = key & 7
        if kind == 2:
            size, at = varint(data, at)
            if at + size > end:
                raise ValueError("not an ONNX graph: a field goes past its end")
            yield key >> 3, at, at + size
            at += size
        elif kind == 0:
            _, at = varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"not an ONNX graph: wire type {kind}")


def fields(data: Buffer, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    return ((at, stop) for field, at, stop in walk(data, start, end) if field == wanted)


def text(data: Buffer, start: int, end: int) -> str:
    """A name; ValueError where it is too long for one."""
    if end - start > _NAME_BYTES:
        raise ValueError(f"not an ONNX graph: a name of {end - start:,} bytes")
    return bytes(data[start:end]).decode("utf-8", errors="replace")


def varint(data: Buffer, at: int) -> tuple[int, int]:
    """(number, where the next field begins)."""
    value = shift = 0
    while True:
        try:
            byte = data[at]
        except IndexError as error:
            raise ValueError("not an ONNX graph: it ends in the middle") from error
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("not an ONNX graph: a number is too long")
