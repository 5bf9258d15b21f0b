"""The weights of a source: tensors that are read a few rows at a time, as floats or in their exact integer form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
_CHUNK_BYTES = 32_000_000  # of floats at a time


@dataclass(frozen=True, slots=True)
class Coding:
    """How a weight is coded: `w = scale * (code - zero) + correction`, for each block of `block` inputs of a row.

    `zero` is 2 ** (bits - 1), or a whole number per block with `zero_points`; `correction` is 0, or a float per block with
    `corrections`. The form of ONNX Runtime's MatMulNBits, plus the correction.
    """

    bits: int
    block: int
    zero_points: bool = False
    corrections: bool = False

    @property
    def zero(self) -> int:
        return 1 << (self.bits - 1)


@dataclass(frozen=True, slots=True)
class Coded:
    """Rows of a coded weight. `codes` [rows, inputs], one a byte; the others [rows, inputs / block], None where the coding
    has none."""

    codes: Codes
    scales: Floats
    zero_points: Codes | None = None
    corrections: Floats | None = None

    def floats(self, coding: Coding) -> Floats:
        """[rows, inputs]"""
        rows, inputs = self.codes.shape
        blocks = self.codes.reshape(rows, -1, coding.block).astype(np.float32)
        blocks -= coding.zero if self.zero_points is None else self.zero_points[..., None].astype(np.float32)
        blocks *= self.scales[..., None]
        if self.corrections is not None:
            blocks += self.corrections[..., None]
        return blocks.reshape(rows, inputs)


class Tensor(Protocol):
    """A tensor of a source. `shape` is PyTorch's: (out, in), (n,) or (experts, out, in); rows are those of its 2-D view
    (a vector is one row). `kind` is shown to the user: "Q4_K", "BF16", "GPTQ 4-bit"."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def kind(self) -> str: ...
    @property
    def size_bytes(self) -> int:
        """In the source."""
        ...

    @property
    def coding(self) -> Coding | None:
        """The exact integer form; None if it has none, and of floats."""
        ...

    def floats(self, start: int = 0, stop: int | None = None) -> Floats:
        """Rows [start:stop] as [rows, inputs]. Raises ModelFilesError."""
        ...

    def coded(self, start: int = 0, stop: int | None = None) -> Coded:
        """Rows [start:stop] in the form that `coding` describes. Raises ModelFilesError."""
        ...


def rows_of(tensor: Tensor) -> int:
    """How many rows its 2-D view has."""
    rows = 1
    for size in tensor.shape[:-1]:
        rows *= size
    return rows


def row_chunks(tensor: Tensor, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """(start, stop) of pieces of its rows that hold about 32 MB as float32; each but the last has a multiple of
    `multiple` rows."""
    rows, wanted = rows_of(tensor), max(1, _CHUNK_BYTES // (4 * tensor.shape[-1]))
    step = max(multiple, wanted // multiple * multiple)
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def as_floats(values: NDArray[Any]) -> Floats:
    """float32, contiguous."""
    return np.ascontiguousarray(values, dtype=np.float32)
