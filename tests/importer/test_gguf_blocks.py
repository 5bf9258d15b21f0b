"""Blocks taken apart hold the values that GGML gives them; `gguf.quants` is the reference."""

from __future__ import annotations

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from support.gguf_files import Blocks, quantized, random_blocks

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.gguf_blocks import coded, coding_of, floats, is_readable
from lmsupply_cli.importer.weights import Coding

CODINGS = {
    "Q4_0": Coding(4, 32), "Q4_1": Coding(4, 32, corrections=True),
    "Q5_0": Coding(8, 32), "Q5_1": Coding(8, 32, corrections=True),
    "Q8_0": Coding(8, 32), "Q2_K": Coding(4, 16, corrections=True),
    "Q3_K": Coding(4, 16), "Q4_K": Coding(4, 32, corrections=True),
    "Q5_K": Coding(8, 32, corrections=True), "Q6_K": Coding(8, 16),
    "IQ4_NL": Coding(8, 32), "IQ4_XS": Coding(8, 32), "MXFP4": Coding(8, 32),
}  # fmt: skip
TABLES = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0", "NVFP4")
# more rows than are taken apart at once
ROWS, INPUTS = 1100, 512


def reference(blocks: Blocks) -> np.ndarray:
    with np.errstate(all="ignore"):
        return dequantize(blocks.data, GGMLQuantizationType[blocks.kind])


@pytest.mark.parametrize("kind", CODINGS)
def test_codes_scales_and_corrections_are_the_weights(kind: str) -> None:
    blocks = random_blocks(kind, (ROWS, INPUTS))
    expected, coding = reference(blocks), coding_of(kind)
    assert coding == CODINGS[kind]
    parts = coded(kind, blocks.data)
    assert parts.codes.shape == (ROWS, INPUTS)
    assert parts.scales.shape == (ROWS, INPUTS // coding.block)
    assert parts.zero_points is None
    assert (parts.corrections is not None) == coding.corrections
    assert int(parts.codes.max()) < 1 << coding.bits
    values = parts.floats(coding)
    if coding.corrections:  # one rounding of the correction, one of the sum
        np.testing.assert_allclose(values, expected, rtol=0, atol=float(np.abs(expected).max()) * 2**-23)
    else:
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("kind", [*CODINGS, *TABLES])
def test_floats_are_those_of_ggml_bit_for_bit(kind: str) -> None:
    blocks = random_blocks(kind, (ROWS if kind in CODINGS else 3, INPUTS), seed=1)
    assert np.array_equal(floats(kind, blocks.data).view(np.uint32), reference(blocks).view(np.uint32))


@pytest.mark.parametrize("kind", CODINGS)
def test_a_row_does_not_depend_on_its_neighbors(kind: str) -> None:
    blocks = random_blocks(kind, (7, 256))
    whole, part = coded(kind, blocks.data), coded(kind, blocks.data[2:5])
    assert np.array_equal(whole.codes[2:5], part.codes)
    assert np.array_equal(whole.scales[2:5], part.scales)
    assert np.array_equal(floats(kind, blocks.data)[2:5], floats(kind, blocks.data[2:5]))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"])
def test_real_weights_come_back(kind: str) -> None:
    weights = np.random.default_rng(0).normal(0, 0.02, (16, 256)).astype(np.float32)
    blocks = quantized(kind, weights)
    coding = coding_of(kind)
    assert coding is not None
    error = np.abs(coded(kind, blocks.data).floats(coding) - weights).mean()
    assert error < {"Q8_0": 0.0002, "Q5_0": 0.0015, "Q5_1": 0.0015}.get(kind, 0.004)


def test_floats_have_no_codes() -> None:
    values = np.random.default_rng(0).normal(0, 1, (5, 24)).astype(np.float32)
    half = values.astype(np.float16)
    assert np.array_equal(floats("F32", values.view(np.uint8)), values)
    assert np.array_equal(floats("F16", half.view(np.uint8)), half.astype(np.float32))
    brain = quantized("BF16", values)
    assert np.array_equal(floats("BF16", brain.data), reference(brain))
    assert [coding_of(kind) for kind in ("F32", "F16", "BF16", *TABLES)] == [None] * (3 + len(TABLES))


def test_infinite_scales_raise_no_warning() -> None:
    blocks = random_blocks("Q4_K", (2, 256))
    blocks.data[0, :4] = np.array([np.inf, np.nan], np.float16).view(np.uint8)
    assert not np.isfinite(floats("Q4_K", blocks.data)[0]).any()
    assert np.isfinite(floats("Q4_K", blocks.data)[1]).all()
    assert not np.isfinite(coded("Q4_K", blocks.data).corrections[0]).any()


def test_types_without_a_reader_are_named() -> None:
    assert all(is_readable(kind) for kind in ("F32", "F16", "BF16", *CODINGS, *TABLES))
    assert not any(is_readable(kind) for kind in ("I32", "F64", "Q8_K", "Q8_1"))
    with pytest.raises(ModelFilesError, match="weights in Q8_K cannot be read"):
        floats("Q8_K", np.zeros((1, 292), np.uint8))
