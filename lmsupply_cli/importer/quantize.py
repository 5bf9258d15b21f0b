"""Our own quantizer: rows of floats into 4 or 8 bits with a scale, and a whole zero point, per block of inputs.

4 bits: for each block, several step sizes around the one that spans its range are tried, each with the zero point that
centers them. With the codes that result the best scale is known (least squares), and so is the squared error it leaves:
with u = code - zero and w ≈ s · u,

    s = Σ w·u / Σ u²        Σ (w - s·u)² = Σ w² - (Σ w·u)² / Σ u²

so the best step is the one with the largest (Σ w·u)² / Σ u². The idea is that of `make_qkx2_quants` of llama.cpp and of
k_quant of ONNX Runtime, which look for a float offset and have to round it to a zero point at the end.

8 bits: the largest number of a block gets the code 255 or 1, the others the nearest.

Which weights need 8 bits when the rest gets 4 (`bits_for`) was measured on SmolLM2-135M, KL to the floats over 600 tokens:
all linears in 4 bits 0.50; v_proj in 8 (3 % of the weights) 0.30; and down_proj of half the layers (15 %) 0.18; and q_proj
and k_proj (27 %) 0.15; and o_proj (37 %) 0.12.

The result in the engine (`benchmarks/importing.py`, 1,500 tokens), on weights of the same model that were moved off the grid
of its Q4_1 by turning pairs of channels of the residual stream a little, or completely, or by dithering: KL 0.071, 0.095,
0.080. Q4_K_M of the same weights has 0.077, 0.107, 0.076 in llama.cpp, with Q5_0 and Q8_0 in most places, since the width of
this model is no multiple of 256; with the blocks that wider models get, 0.17 for the first. Of the first, too: all linears
in 4 bits 0.24, rounded to nearest 0.27; k_quant of the engine's builder 0.40, and 0.18 with its mixed precision.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from lmsupply_cli.importer.weights import Coded, Codes, Coding, Floats, as_floats

_BLOCK_STEPS = {
    16: (0.9, 1.25),
    32: (0.9, 1.35),
    64: (0.95, 1.5),
    128: (0.95, 1.6),
}  # the range of step factors that ever wins
_STEPS = 8  # how many are tried; twice as many lower the squared error by 0.3 %
_PIECE = 48_000  # floats at a time: what is computed with them stays in the cache of a core
_NARROW = 1024  # inputs
_LEAST = np.float32(1e-30)  # smaller numbers are zero


def bits_for(name: str, layers: int, inputs: int) -> int:
    """Of a linear in an int4 model: 4, or 8 for the weights that decide its quality. `name` as in transformers."""
    module = name.removesuffix(".weight").rpartition(".")[2]
    layer = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    if layer is None or module == "v_proj":
        return 8
    if module in ("down_proj", "qkv_proj"):
        return 8 if _is_sensitive(int(layer[1]), layers) else 4
    return 8 if module in ("q_proj", "k_proj", "o_proj") and inputs <= _NARROW else 4


def _is_sensitive(layer: int, layers: int) -> bool:
    """The first and the last eighth, and every third between (`use_more_bits` of llama.cpp)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def coding_for(bits: int, block: int) -> Coding:
    """The form that `quantize_rows` makes: 4 bits with zero points, or 8 bits without."""
    return Coding(bits, block, zero_points=bits == 4)


def quantize_rows(floats: Floats, coding: Coding) -> Coded:
    """`floats` [rows, inputs] in the form `coding`; inputs are a multiple of its block. Runs on all cores."""
    rows, inputs = floats.shape
    blocks = np.ascontiguousarray(floats, dtype=np.float32).reshape(-1, coding.block)
    coded = Coded(
        np.empty(blocks.shape, dtype=np.uint8),
        np.empty(len(blocks), dtype=np.float32),
        np.empty(len(blocks), dtype=np.uint8) if coding.zero_points else None,
    )
    workers = max(1, min(os.cpu_count() or 1, blocks.size // _PIECE))
    bounds = [len(blocks) * place // workers for place in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:  # numpy computes without the GIL
        jobs = [pool.submit(_quantize, blocks, coded, coding, slice(*span)) for span in pairwise(bounds)]
        for job in jobs:
            job.result()
    shape = (rows, inputs // coding.block)
    zeros = None if coded.zero_points is None else coded.zero_points.reshape(shape)
    return Coded(coded.codes.reshape(rows, inputs), coded.scales.reshape(shape), zeros)


def _quantize(blocks: Floats, coded: Coded, coding: Coding, span: slice) -> None:
    """Blocks [span] into the same places of `coded`."""
    step = max(1, _PIECE // coding.block)
    for start in range(span.start, span.stop, step):
        piece = slice(start, min(start + step, span.stop))
        columns = np.ascontiguousarray(
            blocks[piece].T
        )  # a block is a column: what belongs to one is a vector for numpy
        if coded.zero_points is None:
            codes, coded.scales[piece] = _to_nearest(columns, coding)
        else:
            codes, coded.scales[piece], coded.zero_points[piece] = _searched(columns, coding)
        coded.codes[piece] = codes.T


def _to_nearest(columns: Floats, coding: Coding) -> tuple[Codes, Floats]:
    """Codes [block, n] and scales [n] of `columns` [block, n]."""
    most = np.maximum(columns.max(axis=0), -columns.min(axis=0))
    inverse = np.divide(coding.zero - 1, most, out=np.zeros_like(most), where=most > _LEAST)
    scaled = columns * inverse
    np.rint(scaled, out=scaled)
    scaled += coding.zero
    return scaled.astype(np.uint8), as_floats(np.where(most > _LEAST, most, 0) / (coding.zero - 1))


def _searched(columns: Floats, coding: Coding) -> tuple[Codes, Floats, Codes]:
    """Codes [block, n], scales [n] and zero points [n] of `columns` [block, n], which are overwritten."""
    top = np.float32((1 << coding.bits) - 1)
    low, high = np.minimum(columns.min(axis=0), 0), np.maximum(columns.max(axis=0), 0)
    step = high / top - low / top
    inverse = np.divide(1, step, out=np.zeros_like(step), where=step > _LEAST)
    columns *= inverse  # from here on, a block spans 0 … top
    low *= inverse
    units = np.empty_like(columns)
    best, factors, zeros = (np.zeros_like(low) for _ in range(3))
    for factor in np.linspace(*_BLOCK_STEPS.get(coding.block, _BLOCK_STEPS[128]), _STEPS, dtype=np.float32):
        zero = np.rint(low * -factor - (factor - 1) * top / 2).clip(0, top)
        _rounded(columns, factor, zero, top, units)
        gain = _dot(columns, units) ** 2 / np.maximum(_dot(units, units), 1)
        better = gain > best
        best = np.where(better, gain, best)
        factors = np.where(better, factor, factors)
        zeros = np.where(better, zero, zeros)
    _rounded(columns, factors, zeros, top, units)
    scales = _dot(columns, units) / np.maximum(_dot(units, units), 1)
    _rounded(columns, np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0), zeros, top, units)
    scales = _dot(columns, units) / np.maximum(_dot(units, units), 1)
    units += zeros
    return units.astype(np.uint8), scales * step, zeros.astype(np.uint8)


def _rounded(columns: Floats, factor: Floats | np.float32, zero: Floats, top: np.float32, units: Floats) -> None:
    """`units` = code - zero of `columns` in steps of 1 / `factor`."""
    np.multiply(columns, factor, out=units)
    np.rint(units, out=units)
    np.maximum(units, -zero, out=units)
    np.minimum(units, top - zero, out=units)


def _dot(left: Floats, right: Floats) -> Floats:
    """[n] of two [block, n]."""
    product: Floats = np.einsum("ij,ij->j", left, right)
    return product
