"""The blocks of GGML's quantizations, taken apart: codes, scales and offsets, as ggml-quants.c defines them.

Types whose values are `scale * (code - zero) + offset` with whole codes have an exact integer form:

    Q4_0                     4 bits, block 32        Q4_1, Q4_K     4 bits, block 32, corrections
    Q3_K                     4 bits, block 16        Q2_K           4 bits, block 16, corrections
    Q5_0, Q8_0               8 bits, block 32        Q5_1, Q5_K     8 bits, block 32, corrections
    Q6_K                     8 bits, block 16
    IQ4_NL, IQ4_XS, MXFP4    8 bits, block 32: all values of their tables are whole numbers below 128

Q2_K has codes of 2 bits, but ONNX Runtime's fast kernels for 2 bits begin with blocks of 32. Other types are only read as
floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.gguf_file import block_bytes, dequantized
from lmsupply_cli.importer.positional import Bytes
from lmsupply_cli.importer.weights import Coded, Coding, Floats

_IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_E2M1 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # twice the value
_LOW = np.uint8(15)
_PIECE = 1 << 19  # values
FLOAT_KINDS = ("F32", "F16", "BF16")


class _Parts(NamedTuple):
    """The weight is `scale * (code - least) + offset`, computed as GGML does. codes [blocks, values], scales and offsets
    [blocks, values / block]."""

    codes: Bytes
    scales: Floats
    offsets: Floats | None = None


@dataclass(frozen=True, slots=True)
class _Type:
    """`least`: the code that stands for 0; that of types without offsets is the zero of the coding."""

    coding: Coding
    values: int  # in a block of `block_bytes`
    block_bytes: int
    take_apart: Callable[[Bytes], _Parts]
    least: int

    def inputs(self, rows: Bytes) -> int:
        return int(rows.shape[1]) // self.block_bytes * self.values

    def pieces(self, rows: Bytes) -> Iterator[tuple[slice, _Parts]]:
        """A few rows at a time: what fits a processor's cache is taken apart twice as fast."""
        step = max(1, _PIECE // self.inputs(rows))
        for start in range(0, len(rows), step):
            piece = slice(start, start + step)
            with np.errstate(all="ignore"):  # scales of damaged files; whoever reads weights checks them
                parts = self.take_apart(rows[piece].reshape(-1, self.block_bytes))
            yield piece, parts


def coding_of(kind: str) -> Coding | None:
    """The exact integer form of a type; None if it has none."""
    return _TYPES[kind].coding if kind in _TYPES else None


@cache
def is_readable(kind: str) -> bool:
    """Whether `floats` can read a type."""
    return (
        kind in FLOAT_KINDS
        or kind in _TYPES
        or dequantized(np.zeros((1, block_bytes(kind)), np.uint8), kind) is not None
    )


def coded(kind: str, rows: Bytes) -> Coded:
    """Rows [rows, row_bytes] of a type that has an integer form. Exact, but for the rounding of the corrections."""
    known = _TYPES[kind]
    coding, (count, inputs) = known.coding, (len(rows), known.inputs(rows))
    codes, scales = np.empty((count, inputs), np.uint8), np.empty((count, inputs // coding.block), np.float32)
    corrections = np.empty_like(scales) if coding.corrections else None
    for piece, parts in known.pieces(rows):
        codes[piece].reshape(-1)[:] = parts.codes.reshape(-1)
        scales[piece].reshape(-1)[:] = parts.scales.reshape(-1)
        if corrections is not None and parts.offsets is not None:
            distance = (coding.zero - known.least) * parts.scales.astype(np.float64)
            corrections[piece].reshape(-1)[:] = (parts.offsets + distance).reshape(-1)
    return Coded(codes, scales, corrections=corrections)


def floats(kind: str, rows: Bytes) -> Floats:
    """[rows, inputs], with GGML's own roundings. Raises ModelFilesError for a type that cannot be read."""
    if kind == "F32":
        return rows.view(np.float32)
    if kind == "F16":
        return rows.view(np.float16).astype(np.float32)
    if kind == "BF16":
        return (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if kind in _TYPES:
        return _table_floats(_TYPES[kind], rows)
    with np.errstate(all="ignore"):
        values = dequantized(rows, kind)
    if values is None:
        raise ModelFilesError(f"weights in {kind} cannot be read", hint="use another quantization of this model")
    return values


def _table_floats(known: _Type, rows: Bytes) -> Floats:
    values = np.empty((len(rows), known.inputs(rows)), np.float32)
    for piece, parts in known.pieces(rows):
        blocks = values[piece].reshape(parts.scales.size, -1)
        blocks[:] = parts.codes.reshape(blocks.shape)
        blocks -= known.least
        with np.errstate(all="ignore"):
            blocks *= parts.scales.reshape(-1, 1)
            if parts.offsets is not None:
                blocks += parts.offsets.reshape(-1, 1)
    return values


def _half(blocks: Bytes, at: int) -> Floats:
    """[blocks, 1]: the float16 at a byte of each block."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _in_turns(parts: Sequence[Bytes], run: int) -> Bytes:
    """[blocks, parts * bytes]: `run` bytes of each part, then the next `run` bytes of each, and so on."""
    whole = np.dtype(f"V{run}")  # a run is copied in one piece: twice as fast as byte by byte
    values = np.empty((parts[0].size // run, len(parts)), whole)
    for index, part in enumerate(parts):
        values[:, index] = part.reshape(-1).view(whole)
    return values.view(np.uint8).reshape(len(parts[0]), -1)


def _nibbles(packed: Bytes, run: int) -> Bytes:
    """[blocks, 2 * bytes]: the low halves of `run` bytes, then their high halves, and so on."""
    packed = np.ascontiguousarray(packed)
    return _in_turns((packed & _LOW, packed >> np.uint8(4)), run)


def _spread(packed: Bytes, bits: int, run: int, place: int = 0) -> Bytes:
    """[blocks, bytes * 8 / bits]: of each `run` bytes the lowest `bits` bits, then the next ones, and so on; shifted to
    `place`."""
    packed, mask = np.ascontiguousarray(packed), np.uint8(((1 << bits) - 1) << place)
    down = [(packed >> np.uint8(shift)) & mask for shift in range(0, 8 - place, bits)]
    up = [(packed << np.uint8(shift)) & mask for shift in range(place, 0, -bits)]
    return _in_turns(up + down, run)


def _bit_per_value(packed: Bytes) -> Bytes:
    """[blocks, 32] of 0 or 1, from 4 bytes: bit n belongs to value n."""
    return np.unpackbits(packed.reshape(-1), bitorder="little").reshape(len(packed), 32)


def _q4_0(blocks: Bytes) -> _Parts:
    return _Parts(_nibbles(blocks[:, 2:], 16), _half(blocks, 0))


def _q4_1(blocks: Bytes) -> _Parts:
    return _Parts(_nibbles(blocks[:, 4:], 16), _half(blocks, 0), _half(blocks, 2))


def _five_bits(low: Bytes, high: Bytes) -> Bytes:
    """[blocks, 32]: q + 112 (16 less than q is 128 less than that)."""
    codes = _bit_per_value(high)
    codes <<= 4
    codes |= _nibbles(low, 16)
    codes += 112
    return codes


def _q5_0(blocks: Bytes) -> _Parts:
    return _Parts(_five_bits(blocks[:, 6:], blocks[:, 2:6]), _half(blocks, 0))


def _q5_1(blocks: Bytes) -> _Parts:
    return _Parts(_five_bits(blocks[:, 8:], blocks[:, 4:8]), _half(blocks, 0), _half(blocks, 2))


def _q8_0(blocks: Bytes) -> _Parts:
    return _Parts(blocks[:, 2:] ^ np.uint8(128), _half(blocks, 0))


def _q2_k(blocks: Bytes) -> _Parts:
    sizes, codes = blocks[:, :16], _spread(blocks[:, 16:80], 2, 32)
    codes += 6
    scales = _half(blocks, 80) * (sizes & 15).astype(np.float32)
    offsets = -(_half(blocks, 82) * (sizes >> 4).astype(np.float32))
    return _Parts(codes, scales, offsets)


def _q3_k(blocks: Bytes) -> _Parts:
    codes = _spread(blocks[:, 32:96], 2, 32)
    codes |= _spread(blocks[:, :32], 1, 32, place=2)
    codes += 4
    low, high = blocks[:, 96:104], _spread(blocks[:, 104:108], 2, 4)
    sizes = (np.concatenate((low & 15, low >> 4), axis=1) | high << 4).astype(np.float32) - 32
    return _Parts(codes, _half(blocks, 108) * sizes)


def _sizes_of_k(packed: Bytes) -> tuple[Floats, Floats]:
    """Factors of scale and minimum, 6 bits each, [blocks, 8], from 12 bytes."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate((first & 63, third & 15 | (first >> 2) & 48), axis=1)
    least = np.concatenate((second & 63, third >> 4 | (second >> 2) & 48), axis=1)
    return scales.astype(np.float32), least.astype(np.float32)


def _q4_k(blocks: Bytes) -> _Parts:
    scales, least = _sizes_of_k(blocks[:, 4:16])
    return _Parts(_nibbles(blocks[:, 16:], 32), _half(blocks, 0) * scales, -(_half(blocks, 2) * least))


def _q5_k(blocks: Bytes) -> _Parts:
    scales, least = _sizes_of_k(blocks[:, 4:16])
    codes = _nibbles(blocks[:, 48:], 32)
    codes |= _spread(blocks[:, 16:48], 1, 32, place=4)
    codes += 112
    return _Parts(codes, _half(blocks, 0) * scales, -(_half(blocks, 2) * least))


def _q6_k(blocks: Bytes) -> _Parts:
    codes = _nibbles(blocks[:, :128], 64)
    codes |= _spread(blocks[:, 128:192], 2, 32, place=4)
    codes += 96  # 32 less is 128 less
    sizes = blocks[:, 192:208].view(np.int8).astype(np.float32)
    return _Parts(codes, _half(blocks, 208) * sizes)


def _from_table(table: tuple[int, ...], packed: Bytes, run: int) -> Bytes:
    """As `_nibbles`, each the place of a value in `table`; the values are 128 more."""
    low = bytes(table[byte & 15] + 128 for byte in range(256))
    high = bytes(table[byte >> 4] + 128 for byte in range(256))
    data = packed.tobytes()
    parts = [np.frombuffer(data.translate(values), np.uint8).reshape(packed.shape) for values in (low, high)]
    return _in_turns(parts, run)


def _iq4_nl(blocks: Bytes) -> _Parts:
    return _Parts(_from_table(_IQ4, blocks[:, 2:], 16), _half(blocks, 0))


def _iq4_xs(blocks: Bytes) -> _Parts:
    low = blocks[:, 4:8]
    low = np.stack((low & 15, low >> 4), axis=2).reshape(-1, 8)
    high = np.ascontiguousarray(blocks[:, 2:4]).view(np.uint16) >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    sizes = (low | high << 4).astype(np.float32) - 32
    return _Parts(_from_table(_IQ4, blocks[:, 8:], 16), _half(blocks, 0) * sizes)


def _mxfp4(blocks: Bytes) -> _Parts:
    """The scale is an exponent of 2 in E8M0, halved here because the table has twice the values."""
    return _Parts(_from_table(_E2M1, blocks[:, 1:], 16), np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128))


_TYPES = {
    "Q4_0": _Type(Coding(4, 32), 32, 18, _q4_0, 8),
    "Q4_1": _Type(Coding(4, 32, corrections=True), 32, 20, _q4_1, 0),
    "Q5_0": _Type(Coding(8, 32), 32, 22, _q5_0, 128),
    "Q5_1": _Type(Coding(8, 32, corrections=True), 32, 24, _q5_1, 112),
    "Q8_0": _Type(Coding(8, 32), 32, 34, _q8_0, 128),
    "Q2_K": _Type(Coding(4, 16, corrections=True), 256, 84, _q2_k, 6),
    "Q3_K": _Type(Coding(4, 16), 256, 110, _q3_k, 8),
    "Q4_K": _Type(Coding(4, 32, corrections=True), 256, 144, _q4_k, 0),
    "Q5_K": _Type(Coding(8, 32, corrections=True), 256, 176, _q5_k, 112),
    "Q6_K": _Type(Coding(8, 16), 256, 210, _q6_k, 128),
    "IQ4_NL": _Type(Coding(8, 32), 32, 18, _iq4_nl, 128),
    "IQ4_XS": _Type(Coding(8, 32), 256, 136, _iq4_xs, 128),
    "MXFP4": _Type(Coding(8, 32), 32, 17, _mxfp4, 128),
}
