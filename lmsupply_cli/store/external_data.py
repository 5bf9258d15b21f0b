"""Which files an ONNX graph keeps its weights in, and how long they must be.

Read from the bytes, without a protobuf library: each tensor that lies outside carries key-value
entries `location`, `offset` and `length` (onnx.proto, TensorProto.external_data).
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable
from pathlib import Path

# StringStringEntryProto: field 1 is the key, field 2 the value, both with one length byte (values under 128 bytes)
_ENTRY = re.compile(rb"\x0a[\x06\x08](location|offset|length)\x12([\x01-\x7f])", re.DOTALL)


def external_files(graph: Path) -> dict[str, int]:
    """File name → the least bytes that it must have."""
    if graph.stat().st_size == 0:
        return {}
    needed: dict[str, int] = {}
    location, offset = "", 0
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _ENTRY.finditer(data):
            size = match[2][0]
            value = data[match.end() : match.end() + size].decode("utf-8", errors="replace")
            if match[1] == b"location":
                location, offset = value, 0
                needed.setdefault(location, 0)
            elif value.isdigit() and location:
                if match[1] == b"offset":
                    offset = int(value)
                else:
                    needed[location] = max(needed[location], offset + int(value))
    return needed


def missing_data(folder: Path, graphs: Iterable[str]) -> str | None:
    """The name of a weights file that is not there or too short, or None."""
    for graph in graphs:
        for name, size in external_files(folder / graph).items():
            path = (folder / graph).parent / name
            if not path.is_file() or path.stat().st_size < size:
                return name
    return None
