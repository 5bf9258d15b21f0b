"""Which files an ONNX graph keeps its weights in, and how long they must be.

Of onnx.proto only the way to each tensor is walked: ModelProto.graph (7) and .functions (25); GraphProto.node (1),
.initializer (5) and .sparse_initializer (15); FunctionProto.node (7); NodeProto.attribute (5); AttributeProto.t (5),
.g (6), .tensors (10), .graphs (11), .sparse_tensor (22) and .sparse_tensors (23); SparseTensorProto.values (1) and
.indices (2); TensorProto.external_data (13), of which each entry has a key (1) and a value (2).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from lmsupply_cli.engine.protobuf import Buffer, text, walk

_BODY, _NODE, _ATTRIBUTE, _SPARSE, _TENSOR = "body", "node", "attribute", "sparse", "tensor"
_INTO: Mapping[str, Mapping[int, str]] = {
    "model": {7: _BODY, 25: "function"},
    "function": {7: _NODE},
    _BODY: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _BODY, 10: _TENSOR, 11: _BODY, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}
_DEPTH = 64  # messages inside messages; a graph in a graph takes three
_LARGEST = 1 << 62


def external_files(graph: Path) -> dict[str, int]:
    """File, as the graph names it → the least bytes that it must have.

    Raises ValueError where the file is no ONNX graph, OSError where it cannot be read.
    """
    needed: dict[str, int] = {}
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, end in _tensors(data, 0, len(data), "model", 0):
            location, least = _outside(data, start, end)
            if location:
                needed[location] = max(needed.get(location, 0), least)
    return needed


def _tensors(data: Buffer, start: int, end: int, kind: str, depth: int) -> Iterator[tuple[int, int]]:
    if depth > _DEPTH:
        raise ValueError("not an ONNX graph: it is nested too deeply")
    into = _INTO[kind]
    for field, at, stop in walk(data, start, end):
        inner = into.get(field)
        if inner == _TENSOR:
            yield at, stop
        elif inner:
            yield from _tensors(data, at, stop, inner, depth + 1)


def _outside(data: Buffer, start: int, end: int) -> tuple[str, int]:
    """(file, bytes that it must have), "" for a tensor that is in the graph itself."""
    entries = {}
    for field, at, stop in walk(data, start, end):
        if field == 13:
            parts = {number: text(data, a, b) for number, a, b in walk(data, at, stop)}
            entries[parts.get(1, "")] = parts.get(2, "")
    return entries.get("location", ""), _number(entries.get("offset")) + _number(entries.get("length"))


def _number(value: str | None) -> int:
    if value is None:
        return 0
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else _LARGEST + 1
    if number > _LARGEST:
        raise ValueError(f"not an ONNX graph: an offset or length of {value!r}")
    return number
