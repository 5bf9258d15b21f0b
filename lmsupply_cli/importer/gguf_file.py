"""GGUF files: metadata and tensors of one model, in one file or in several parts.

The header is parsed here, each count, length and offset checked against the size of the file before it is used:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package knows the types of tensors.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite, prod
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import is_file, reason_of
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.positional import Bytes, Stamp, read_at, stamp_of

_VERSIONS = (2, 3)
_ALIGNMENT = 32  # unless general.alignment says otherwise
_MOST_DIMENSIONS = 4
# beyond any model; what is larger is a file that lies
_HEADER_BYTES, _KEYS, _TENSORS, _ENTRIES, _NAME_BYTES = 256_000_000, 65_536, 131_072, 4_000_000, 65_535
_PART = re.compile(r"(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.IGNORECASE | re.DOTALL)
# by value type: struct's letter, numpy's type
_NUMBERS = {0: ("B", "u1"), 1: ("b", "i1"), 2: ("H", "<u2"), 3: ("h", "<i2"), 4: ("I", "<u4"), 5: ("i", "<i4"),
            6: ("f", "<f4"), 10: ("Q", "<u8"), 11: ("q", "<i8"), 12: ("d", "<f8")}  # fmt: skip
_FLOAT32, _FLAG, _TEXT, _LIST = 6, 7, 8, 9
_DAMAGED = "the file is damaged or incomplete; download it again"


class _Texts(NamedTuple):
    """A list of texts as it stands in the file: decoded when it is asked for."""

    entries: int
    data: bytes


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where a tensor lies. `shape` is in PyTorch's order, rows run along its last dimension; `kind` is the name of its
    type in GGML; `row_bytes`: of one row."""

    name: str
    kind: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size_bytes: int
    row_bytes: int
    stamp: Stamp = field(repr=False)

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    def read(self, start: int = 0, stop: int | None = None) -> Bytes:
        """[rows, row_bytes]: rows [start:stop] as they stand in the file. Raises ModelFilesError."""
        start, stop, _ = slice(start, stop).indices(self.rows)
        place, size = self.offset + start * self.row_bytes, max(0, stop - start) * self.row_bytes
        return read_at(self.path, self.stamp, self.name, place, size).reshape(-1, self.row_bytes)


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A model in GGUF. `path` is the file that was named, `parts` all its files, that one included."""

    path: Path
    parts: tuple[Path, ...]
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]

    def __contains__(self, key: str) -> bool:
        return key in self.metadata

    def text(self, key: str, default: str | None = None) -> str:
        """Raises ModelFilesError for a value of another type, and without `default` for one that is missing."""
        value = self._value(key, default)
        return value if isinstance(value, str) else self._wrong(key, value, "text")

    def flag(self, key: str, default: bool | None = None) -> bool:
        """As `text`."""
        value = self._value(key, default)
        return value if isinstance(value, bool) else self._wrong(key, value, "true or false")

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number that is not negative; otherwise as `text`."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self._wrong(key, value, "a whole number, 0 or more")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; otherwise as `text`."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            self._wrong(key, value, "a number")
        return float(value)

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty where the key is missing. Raises ModelFilesError for another type, and bad UTF-8."""
        value = self.metadata.get(key, _Texts(0, b""))
        if not isinstance(value, _Texts):
            self._wrong(key, value, "a list of texts")
        try:
            return [text.decode() for text in _split(value)]
        except UnicodeDecodeError as error:
            raise ModelFilesError(f"{self.path}: {key} is not valid UTF-8", hint=_DAMAGED) from error

    def numbers(self, key: str) -> NDArray[Any]:
        """A list of numbers or flags, of the type that the file gives them; empty where the key is missing. Raises
        ModelFilesError for another type."""
        value = self.metadata.get(key, np.zeros(0, np.float32))
        return value if isinstance(value, np.ndarray) else self._wrong(key, value, "a list of numbers")

    def _value(self, key: str, default: Any) -> Any:
        value = self.metadata.get(key, default)
        if value is None:
            raise ModelFilesError(f"{self.path}: the metadata has no {key}", hint=_DAMAGED)
        return value

    def _wrong(self, key: str, value: Any, wanted: str) -> NoReturn:
        found = "a list" if isinstance(value, np.ndarray | _Texts) else plain(repr(value), 40)
        raise ModelFilesError(f"{self.path}: {key} must be {wanted}, not {found}", hint=_DAMAGED)


def open_gguf_file(path: Path) -> GgufFile:
    """Open the file at `path`; if it is a part of a model, all parts. Raises ModelFilesError."""
    paths = _parts(path)
    read = [_Part(part).parse() for part in paths]
    metadata, tensors = read[0][0], dict(read[0][1])
    for part, (values, found) in zip(paths, read, strict=True):
        _check_number(part, paths, values)
        if part != paths[0]:
            for name, tensor in found.items():
                if name in tensors:
                    raise ModelFilesError(
                        f"{part}: the tensor {plain(name)} is also in {tensors[name].path.name}", hint=_DAMAGED
                    )
                tensors[name] = tensor
    wanted = _whole(paths[0], metadata, "split.tensors.count", len(tensors))
    if wanted != len(tensors):
        raise ModelFilesError(f"{paths[0]}: there are {len(tensors)} tensors, but {wanted} were split", hint=_DAMAGED)
    return GgufFile(path, paths, metadata, tensors)


def read_metadata(data: bytes, name: str) -> GgufFile:
    """What the first bytes of a GGUF file tell: the metadata that they hold, no tensors. Raises ModelFilesError for what is
    no GGUF file."""
    part = _Part(Path(name), data, end=len(data))
    return GgufFile(Path(name), (), part.metadata_so_far(), {})


def _parts(path: Path) -> tuple[Path, ...]:
    """All files of the model, in order; `path` alone unless its name is that of a part."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return (path,)
    number, count = int(match["part"]), int(match["parts"])
    if not 1 <= number <= count:
        return (path,)
    end = path.name[len(match["stem"]) :]
    parts = []
    for part in range(1, count + 1):
        name = f"{match['stem']}-{part:05}{end[6:]}"
        parts.append(path.with_name(name))
        if not is_file(parts[-1]):
            raise ModelFilesError(
                f"{path.parent / name} is missing: {path.name} is one of {count} parts",
                hint="download all parts into one folder",
            )
    return tuple(parts)


def _check_number(path: Path, paths: tuple[Path, ...], values: Mapping[str, Any]) -> None:
    """Whether the file says of itself what its name says."""
    number = _whole(path, values, "split.no", paths.index(path))
    count = _whole(path, values, "split.count", len(paths)) or 1
    if (number, count) != (paths.index(path), len(paths)):
        raise ModelFilesError(
            f"{path} says it is part {number + 1} of {count}, but its name says otherwise",
            hint=f"name it NAME-{number + 1:05}-of-{count:05}.gguf, beside the other parts",
        )


def _whole(path: Path, values: Mapping[str, Any], key: str, default: int) -> int:
    value = values.get(key, default)
    if not isinstance(value, int):
        raise ModelFilesError(f"{path}: {key} must be a whole number", hint=_DAMAGED)
    return value


@dataclass(slots=True)
class _Part:
    """One file while its header is parsed: `at` is the place, `data` the whole file, `end` the last place that a header
    may reach."""

    path: Path
    data: Any = b""
    at: int = 0
    end: int = 0
    stamp: Stamp = (0, 0)
    alignment: int = _ALIGNMENT

    def parse(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        try:
            with open(self.path, "rb", opener=_without_waiting) as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise ModelFilesError(f"{self.path} is not a regular file", hint="name a GGUF file")
                self.stamp = stamp_of(found)
                if found.st_size < 24:
                    self._fail("is not a GGUF file", "it is damaged, or not a model: download it again")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as self.data:
                    self.end = min(len(self.data), _HEADER_BYTES)
                    return self._header()
        except OSError as error:
            raise ModelFilesError(f"cannot read {self.path}: {reason_of(error)}") from error
        except ValueError as error:
            raise ModelFilesError(f"cannot read {str(self.path)!r}: {error}") from error
        finally:
            self.data = b""

    def metadata_so_far(self) -> dict[str, Any]:
        """As far as the data goes: lists and long texts come last."""
        found: dict[str, Any] = {}
        _, keys = self._counts()
        with suppress(ModelFilesError):
            for _ in range(keys):
                key = self._text("a key", _NAME_BYTES)
                found[key] = self._value(key, self._number("I"))
        return found

    def _header(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        tensors, keys = self._counts()
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self._text("a key", _NAME_BYTES)
            if key in metadata:
                self._fail(f"has the key {plain(key)} twice")
            metadata[key] = self._value(key, self._number("I"))
        self._align(metadata.get("general.alignment", _ALIGNMENT))
        return metadata, self._tensors(tensors)

    def _counts(self) -> tuple[int, int]:
        """How many tensors and keys it says it has."""
        if self.data[:4] != b"GGUF":
            self._fail("is not a GGUF file", "it is damaged, or not a model: download it again")
        self.at = 4
        version = self._number("I")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            if swapped in _VERSIONS:
                self._fail(
                    "is a big-endian GGUF file, which is not supported", "use the little-endian file of this model"
                )
            self._fail(
                f"has version {version} of GGUF; versions 2 and 3 are supported", "use a newer file of this model"
            )
        tensors, keys = self._number("Q"), self._number("Q")
        if keys > _KEYS or tensors > _TENSORS:
            self._fail(f"claims to have {keys} keys and {tensors} tensors")
        return tensors, keys

    def _align(self, alignment: Any) -> None:
        if (
            isinstance(alignment, bool)
            or not isinstance(alignment, int)
            or alignment < 1
            or alignment & (alignment - 1)
        ):
            self._fail("has a general.alignment that is not a power of two")
        self.alignment = alignment

    def _tensors(self, count: int) -> dict[str, GgufTensor]:
        entries: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(count):
            name = self._text("the name of a tensor", _NAME_BYTES)
            if name in entries:
                self._fail(f"has the tensor {plain(name)} twice")
            dimensions = self._number("I")
            if not 1 <= dimensions <= _MOST_DIMENSIONS:
                self._fail(f"has a tensor {plain(name)} with {dimensions} dimensions")
            shape = tuple(self._number("Q") for _ in range(dimensions))
            entries[name] = (shape[::-1], self._number("I"), self._number("Q"))
        begin = -(-self.at // self.alignment) * self.alignment
        return {name: self._tensor(name, *entry, begin) for name, entry in entries.items()}

    def _tensor(self, name: str, shape: tuple[int, ...], number: int, offset: int, begin: int) -> GgufTensor:
        kind, block, block_bytes = tensor_type(number)
        shown = plain(name)
        if not kind:
            self._fail(
                f"has the tensor {shown} in a quantization that is not known (type {number})",
                "use another quantization of this model",
            )
        if 0 in shape or shape[-1] % block:
            self._fail(f"has the tensor {shown} with shape {list(shape)}, which is not possible in {kind}")
        row_bytes = shape[-1] // block * block_bytes
        size = row_bytes * prod(shape[:-1])
        if begin + offset + size > len(self.data):
            self._fail(f"ends before the tensor {shown} does")
        return GgufTensor(name, kind, shape, self.path, begin + offset, size, row_bytes, self.stamp)

    def _value(self, key: str, kind: int) -> Any:
        if kind == _TEXT:
            return self._text(plain(key))
        if kind == _FLAG:
            return bool(self._number("B"))
        if kind == _LIST:
            return self._list(key)
        if kind not in _NUMBERS:
            self._fail(f"has the key {plain(key)} with a value of unknown type {kind}")
        value = self._number(_NUMBERS[kind][0])
        return float(str(np.float32(value))) if kind == _FLOAT32 else value  # 1e-05, not 9.999999747378752e-06

    def _list(self, key: str) -> Any:
        kind, count, shown = self._number("I"), self._number("Q"), plain(key)
        if kind == _LIST:
            self._fail(
                f"has the key {shown} with lists in a list, which are not supported", "use another file of this model"
            )
        if count > _ENTRIES:
            self._fail(f"claims to have {count} entries of {shown}")
        if kind == _TEXT:
            return self._texts(count, shown)
        if kind != _FLAG and kind not in _NUMBERS:
            self._fail(f"has the key {shown} with a list of unknown type {kind}")
        numpy_type = np.dtype("u1" if kind == _FLAG else _NUMBERS[kind][1])
        self._check_room(count * numpy_type.itemsize, f"{count} entries of {shown}")
        values = np.frombuffer(self.data[self.at : self.at + count * numpy_type.itemsize], numpy_type)
        self.at += values.nbytes
        return values != 0 if kind == _FLAG else values

    def _texts(self, count: int, shown: str) -> _Texts:
        self._check_room(count * 8, f"{count} entries of {shown}")
        begin = at = self.at
        data, last, length_at = self.data, self.end - 8, struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at > last:
                self._fail(f"is too short for {count} entries of {shown}")
            at += 8 + length_at(data, at)[0]
        if at > self.end:
            self._fail(f"is too short for {count} entries of {shown}")
        self.at = at
        return _Texts(count, data[begin:at])

    def _text(self, what: str, limit: int = _HEADER_BYTES) -> str:
        length = self._number("Q")
        if length > limit:
            self._fail(f"claims to have {what} of {length} bytes")
        self._check_room(length, f"{what} of {length} bytes")
        self.at += length
        try:
            text: str = self.data[self.at - length : self.at].decode()
        except UnicodeDecodeError:
            self._fail(f"has {what} that is not valid UTF-8")
        return text

    def _number(self, letter: str) -> Any:
        form = struct.Struct(f"<{letter}")
        self._check_room(form.size, "its header")
        self.at += form.size
        return form.unpack_from(self.data, self.at - form.size)[0]

    def _check_room(self, size: int, what: str) -> None:
        if size > self.end - self.at:
            self._fail(f"is too short for {what}")

    def _fail(self, what: str, hint: str = _DAMAGED) -> NoReturn:
        raise ModelFilesError(f"{self.path} {what}", hint=hint)


def tensor_type(number: int) -> tuple[str, int, int]:
    """Name of a type of GGML, values in a block and bytes of a block; ("", 1, 0) for an unknown one."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        kind = GGMLQuantizationType(number)
        return kind.name, *GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        return "", 1, 0


def block_bytes(kind: str) -> int:
    """Of a known type."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    return int(GGML_QUANT_SIZES[GGMLQuantizationType[kind]][1])


def dequantized(rows: Bytes, kind: str) -> NDArray[np.float32] | None:
    """[rows, inputs] of rows of blocks; None for a type that `gguf` cannot read."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    try:
        return np.asarray(dequantize(rows, GGMLQuantizationType[kind]), np.float32)
    except NotImplementedError:
        return None


def _split(texts: _Texts) -> Iterator[bytes]:
    at, length_at = 0, struct.Struct("<Q").unpack_from
    for _ in range(texts.entries):
        begin = at + 8
        at = begin + length_at(texts.data, at)[0]
        yield texts.data[begin:at]


def _without_waiting(path: str, flags: int) -> int:
    """Open without waiting for the writer of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
