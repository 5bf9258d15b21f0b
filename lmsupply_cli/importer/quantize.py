"""Our own quantizer: rows of floats into 4 or 8 bits with a scale, and a whole zero point, per block of inputs."""

from __future__ import annotations

import numpy as np

from lmsupply_cli.importer.weights import Coded, Coding, Floats


def coding_for(bits: int, block: int) -> Coding:
    """The form that `quantize_rows` makes: 4 bits with zero points, or 8 bits without."""
    return Coding(bits, block, zero_points=bits == 4)


def quantize_rows(floats: Floats, coding: Coding) -> Coded:
    """`floats` [rows, inputs] in the form `coding`; inputs are a multiple of its block."""
    rows, inputs = floats.shape
    blocks = floats.reshape(rows, inputs // coding.block, coding.block)
    levels = (1 << coding.bits) - 1
    if not coding.zero_points:
        scales = np.abs(blocks).max(axis=2) / (coding.zero - 1)
        inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
        codes = np.rint(blocks * inverse[..., None]) + coding.zero
        return Coded(codes.clip(0, levels).astype(np.uint8).reshape(rows, inputs), scales)
    low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    scales = (high - low) / levels
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    zeros = np.rint(-low * inverse)
    codes = np.rint(blocks * inverse[..., None]) + zeros[..., None]
    return Coded(codes.clip(0, levels).astype(np.uint8).reshape(rows, inputs), scales, zeros.astype(np.uint8))
