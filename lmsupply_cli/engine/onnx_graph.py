"""What an ONNX graph says of its weights, without a protobuf library: the files that hold them, and their bytes by the
operators that use them.

Of onnx.proto only the way to each tensor is walked. For the files: ModelProto.graph (7) and .functions (25);
GraphProto.node (1), .initializer (5) and .sparse_initializer (15); FunctionProto.node (7); NodeProto.attribute (5);
AttributeProto.t (5), .g (6), .tensors (10), .graphs (11), .sparse_tensor (22) and .sparse_tensors (23);
SparseTensorProto.values (1) and .indices (2); TensorProto.external_data (13), of which each entry has a key (1) and a
value (2). For the bytes: GraphProto.input (11), NodeProto.input (1), .output (2) and .op_type (4), TensorProto.dims (1),
.data_type (2), .name (8) and .raw_data (9), ValueInfoProto.name (1) and .type (2), TypeProto.tensor_type (1) and its
.elem_type (1).
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Buffer = mmap.mmap | memoryview

_NAME_BYTES = 4096  # no tensor, file or operator has a longer name
_NUMBER_BYTES = {1: 4, 2: 1, 3: 1, 10: 2, 16: 2}  # TensorProto.DataType: float, uint8, int8, float16, bfloat16

_LENGTH = re.compile(r"[0-9]{1,18}")  # bytes of a tensor


@dataclass(frozen=True, slots=True)
class GraphWeights:
    """Bytes by use. `product`: matrix products; `tied`: of those, what is looked up in as well; `largest`: the largest
    tensor of a product; `other`: the rest, without tables that are only looked up in.
    `cache_number`: of one number in the KV cache that the graph takes, 0 where that cannot be told. `longrope_threshold`: as
    in ModelShape."""

    product_bytes: int
    tied_bytes: int
    largest_bytes: int
    other_bytes: int
    cache_number_bytes: int = 0
    longrope_threshold: int = 0


def read_graph(path: Path, *, cache_input: str = "past_key_values.0.key") -> GraphWeights:
    """`cache_input`: the name of an input that is KV cache. Raises ValueError where the file is no ONNX graph, OSError where it cannot be read."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        sizes: dict[str, int] = {}
        nodes: list[tuple[str, list[str], list[str]]] = []
        cache_number = 0
        for start, end in fields(data, 0, len(data), 7):
            sizes |= dict(_tensor(data, at, stop) for at, stop in fields(data, start, end, 5))
            nodes += [_node(data, at, stop) for at, stop in fields(data, start, end, 1)]
            inputs = dict(_input(data, at, stop) for at, stop in fields(data, start, end, 11))
            cache_number = _NUMBER_BYTES.get(inputs.get(cache_input, 0), 0)
    used = _uses(nodes)
    product = {name for name, kinds in used.items() if any("MatMul" in kind for kind in kinds)} & set(sizes)
    lookup = {name for name, kinds in used.items() if any(kind.startswith("Gather") for kind in kinds)} & set(sizes)
    only_lookup = {name for name in lookup if all(kind.startswith("Gather") for kind in used[name])}
    return GraphWeights(
        product_bytes=sum(sizes[name] for name in product),
        tied_bytes=sum(sizes[name] for name in lookup & product),
        largest_bytes=max((sizes[name] for name in product), default=0),
        other_bytes=sum(size for name, size in sizes.items() if name not in product | only_lookup),
        cache_number_bytes=cache_number,
        longrope_threshold=_switch(nodes),
    )


def _switch(nodes: list[tuple[str, list[str], list[str]]]) -> int:
    """The engine's builder lets an If choose `cos_cache` by a Greater, whose constant has its value as the last part of
    its name (builders/base.py, make_rotary_embedding_multi_cache)."""
    compared = {out: inputs[1] for kind, inputs, outputs in nodes if kind == "Greater" for out in outputs}
    for kind, inputs, outputs in nodes:
        if kind == "If" and "cos_cache" in outputs and inputs and inputs[0] in compared:
            value = compared[inputs[0]].rpartition("/")[2]
            return int(value) if value.isdecimal() else 0
    return 0


def _uses(nodes: list[tuple[str, list[str], list[str]]]) -> dict[str, set[str]]:
    """Name → the operators that use it, also where it is only given another shape first."""
    renamed = {
        out: inputs[0]
        for kind, inputs, outputs in nodes
        if kind in ("Reshape", "Identity") and inputs
        for out in outputs
    }
    used: dict[str, set[str]] = {}
    for kind, inputs, _ in nodes:
        for name in inputs:
            used.setdefault(renamed.get(name, name), set()).add(kind)
    return used


def _tensor(data: Buffer, start: int, end: int) -> tuple[str, int]:
    name, raw, external = "", 0, 0
    for field, at, stop in walk(data, start, end):
        if field == 8:
            name = text(data, at, stop)
        elif field in (4, 5, 7, 9, 10):  # packed numbers or raw bytes
            raw += stop - at
        elif field == 13:
            parts = {number: text(data, a, b) for number, a, b in walk(data, at, stop)}
            if parts.get(1) == "length":
                external = _length(parts.get(2, ""))
    return name, external or raw


def _length(value: str) -> int:
    if not _LENGTH.fullmatch(value):
        raise ValueError(f"not an ONNX graph: a length of {value[:40]!r}")
    return int(value)


def _input(data: Buffer, start: int, end: int) -> tuple[str, int]:
    """(name, type of its numbers), 0 for no tensor."""
    name, kind = "", 0
    for field, at, stop in walk(data, start, end):
        if field == 1:
            name = text(data, at, stop)
        elif field == 2:
            for first, last in fields(data, at, stop, 1):
                if first < last and data[first] == 8:  # elem_type, a number, is written first
                    kind, _ = varint(data, first + 1)
    return name, kind


def _node(data: Buffer, start: int, end: int) -> tuple[str, list[str], list[str]]:
    """(operator, inputs, outputs)."""
    kind = ""
    names: dict[int, list[str]] = {1: [], 2: []}
    for field, at, stop in walk(data, start, end):
        if field in names:
            names[field].append(text(data, at, stop))
        elif field == 4:
            kind = text(data, at, stop)
    return kind, names[1], names[2]


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


def walk(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field, first byte, last byte + 1) of each length-delimited field; numbers are passed over.

    Raises ValueError if the bytes are no message.
    """
    at = start
    while at < end:  # nearly every number has one byte
        key, at = (data[at], at + 1) if data[at] < 0x80 else varint(data, at)
        kind = key & 7
        if kind == 2:
            size, at = (data[at], at + 1) if at < end and data[at] < 0x80 else varint(data, at)
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
