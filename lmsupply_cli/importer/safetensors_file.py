"""The container of safetensors: one file or several with an index, checked, and read a few rows at a time.

The library checks a header (its length, types, shapes, and offsets that cover the file without gaps or overlaps). It
maps files and cannot give numpy a BF16, so the values are read here.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import is_file, read_json, reason_of
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.positional import Stamp, read_at, read_strided, stamp_of
from lmsupply_cli.importer.weights import Floats, as_floats

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_INDEX_BYTES = 100_000_000
_AGAIN = "the file is damaged or incomplete; download it again"
_STORED: Mapping[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1",
}  # fmt: skip
FLOAT_KINDS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file; `kind` is the type as safetensors writes it, `offset` counts from the start of the file."""

    path: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    stamp: Stamp = field(repr=False)

    def array(self) -> NDArray[Any]:
        """All of it in its shape; BF16 as uint16, F8 as uint8.

        Raises ModelFilesError where numpy has no form for the kind, or the file is gone or changed.
        """
        return self.rows().reshape(self.shape)

    def rows(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows [start:stop] of the 2-D view as [rows, inputs]; a vector is one row. Otherwise as `array`."""
        stored, width = self._type(), self.shape[-1] if self.shape else 1
        start, stop, _ = slice(start, stop).indices(prod(self.shape[:-1]))
        row_bytes = width * stored.itemsize
        size = max(0, stop - start) * row_bytes
        data = read_at(self.path, self.stamp, self.name, self.offset + start * row_bytes, size)
        return data.view(stored).reshape(max(0, stop - start), width)

    def columns(self, start: int, stop: int) -> NDArray[Any]:
        """Columns [start:stop] of a matrix as [rows, columns]. Otherwise as `array`."""
        stored, (rows, width) = self._type(), self.shape
        start, stop, _ = slice(start, stop).indices(width)
        row_bytes, first = width * stored.itemsize, self.offset + start * stored.itemsize
        offsets = range(first, first + rows * row_bytes, row_bytes)
        size = max(0, stop - start) * stored.itemsize
        return read_strided(self.path, self.stamp, self.name, offsets, size).view(stored)

    def _type(self) -> np.dtype[Any]:
        """That of the numbers as they stand in the file. Raises ModelFilesError."""
        stored = _STORED.get(self.kind)
        if stored is None:
            raise ModelFilesError(
                f"{self.path.name}: {plain(self.name)} is {self.kind}, which can't be read",
                hint="convert from a version of the model in BF16, F16 or F32",
            )
        return np.dtype(stored)

    def floats(self, start: int = 0, stop: int | None = None) -> Floats:
        """Rows [start:stop] of the 2-D view as [rows, inputs]; a vector is one row. Raises ModelFilesError."""
        return self._finite(self.rows(start, stop))

    def float_columns(self, start: int, stop: int) -> Floats:
        """Columns [start:stop] of a matrix as [columns, rows]. Raises ModelFilesError."""
        return self._finite(self.columns(start, stop).T)

    def _finite(self, stored: NDArray[Any]) -> Floats:
        values = _as_float32(stored, self.kind)
        if values.size and not (isfinite(values.min()) and isfinite(values.max())):
            raise ModelFilesError(
                f"{self.path.name}: {plain(self.name)} contains NaN or infinity",
                hint="the weights are damaged or were exported incorrectly: ask their publisher",
            )
        return values


def open_folder(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of model.safetensors, or of the files that model.safetensors.index.json lists, by name.

    Raises ModelFilesError for files that are missing, damaged or hostile.
    """
    single, index = folder / SINGLE, folder / INDEX
    if is_file(single):
        return {tensor.name: tensor for tensor in read_file(single)}
    if not is_file(index):
        raise _no_weights(folder)
    tensors: dict[str, StoredTensor] = {}
    places = _read_index(index)
    for name in sorted(set(places.values())):
        if not is_file(folder / name):
            raise ModelFilesError(f"{plain(name)} is missing in {folder}", hint=f"{INDEX} lists it: download it too")
        for tensor in read_file(folder / name):
            if places.get(tensor.name) == name:
                tensors[tensor.name] = tensor
    for wanted, name in places.items():
        if wanted not in tensors:
            raise ModelFilesError(
                f"{plain(name)} has no tensor {plain(wanted)}, which {INDEX} says it has", hint=_AGAIN
            )
    return tensors


def read_file(path: Path) -> Iterator[StoredTensor]:
    """What a file holds. Raises ModelFilesError."""
    try:
        with path.open("rb") as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            with safe_open(path, framework="numpy"):
                pass
            header_bytes = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(header_bytes), object_pairs_hook=_without_duplicates)
    except OSError as cause:
        raise ModelFilesError(f"can't read {path}: {reason_of(cause)}") from cause
    except (SafetensorError, ValueError) as cause:
        said = str(cause).removeprefix("Error while deserializing header: ")
        raise ModelFilesError(f"{path} is not a valid safetensors file: {plain(said)}", hint=_AGAIN) from cause
    entries.pop("__metadata__", None)
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        yield StoredTensor(
            path, name, entry["dtype"], tuple(entry["shape"]), 8 + header_bytes + begin, end - begin, stamp
        )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is in it twice")
        found[name] = value
    return found


def _read_index(path: Path) -> dict[str, str]:
    """The file of each tensor."""
    content = read_json(path, limit_bytes=_INDEX_BYTES, error=ModelFilesError)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelFilesError(f"{path} has no weight_map", hint=_AGAIN)
    for name in places.values():
        if not isinstance(name, str) or not _is_plain_name(name):
            raise ModelFilesError(
                f"{path} names a file that is not a safetensors file beside it: {plain(str(name))}",
                hint="don't use this model: a proper index names only files of its own folder",
            )
    return places


def _is_plain_name(name: str) -> bool:
    return name.endswith(".safetensors") and name.isprintable() and not any(character in name for character in "/\\:")


def _no_weights(folder: Path) -> ModelFilesError:
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"):
        if is_file(folder / name):
            return ModelFilesError(
                f"{folder} has its weights in {name}, a pickle, which can run code when it is read",
                hint="use a version of the model in safetensors",
            )
    return ModelFilesError(
        f"no {SINGLE} and no {INDEX} in {folder}", hint="name a folder that holds a model in safetensors"
    )


def _as_float32(values: NDArray[Any], kind: str) -> Floats:
    if kind == "BF16":  # the upper half of a float32
        return as_floats((values.astype(np.uint32) << np.uint32(16)).view(np.float32))
    if kind == "F8_E5M2":  # the upper half of a float16
        return as_floats((values.astype(np.uint16) << np.uint16(8)).view(np.float16))
    if kind == "F8_E4M3":
        return as_floats(_e4m3()[values])
    return as_floats(values)


def _e4m3() -> Floats:
    """The values of all codes of F8_E4M3 (the variant with NaN and no infinity)."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    values[codes & 127 == 127] = np.nan
    return as_floats(np.where(codes > 127, -values, values))
