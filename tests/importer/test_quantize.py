"""Our own quantizer: how much it keeps, and that nothing in a weight can break it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lmsupply_cli.importer.quantize import bits_for, coding_for, quantize_rows
from lmsupply_cli.importer.weights import Floats

LARGEST = 2.0**126
CODINGS = [(4, 32), (4, 64), (4, 128), (8, 32), (8, 128)]


def weights(kind: str, rows: int = 64, inputs: int = 1024) -> Floats:
    random = np.random.default_rng(3)
    values = random.standard_normal((rows, inputs))
    if kind == "heavy tails":
        values = random.standard_t(4, (rows, inputs))
    if kind == "outlier channels":
        values *= np.where(random.random(inputs) < 0.02, 8, 1)
    if kind == "a shifted mean":
        values += 1.5
    return values.astype(np.float32) * np.float32(0.02)


def restored(floats: Floats, bits: int, block: int) -> Floats:
    coding = coding_for(bits, block)
    return quantize_rows(floats, coding).floats(coding)


def relative_error(floats: Floats, bits: int, block: int) -> float:
    return float(((restored(floats, bits, block) - floats) ** 2).sum() / (floats**2).sum())


def rounded_error(floats: Floats, block: int) -> float:
    """Of round to nearest with a zero point, from the least to the largest number of a block."""
    blocks = floats.reshape(-1, block).astype(np.float64)
    low, high = np.minimum(blocks.min(1, keepdims=True), 0), np.maximum(blocks.max(1, keepdims=True), 0)
    scale = (high - low) / 15
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(blocks / scale) + zero, 0, 15)
    return float(((scale * (codes - zero) - blocks) ** 2).sum() / (blocks**2).sum())


def exhaustive_error(floats: Floats, block: int) -> float:
    """Of the best of 60 scales with each of the 16 zero points, per block."""
    blocks = floats.reshape(-1, block).astype(np.float64)
    width = np.maximum(blocks.max(1), 0) - np.minimum(blocks.min(1), 0)
    least = np.full(len(blocks), np.inf)
    for factor in np.linspace(0.6, 1.2, 60):
        scale = (width / 15 * factor)[:, None]
        for zero in range(16):
            units = np.clip(np.rint(blocks / scale), -zero, 15 - zero)
            fitted = (blocks * units).sum(1) / np.maximum((units**2).sum(1), 1)
            least = np.minimum(least, ((blocks - fitted[:, None] * units) ** 2).sum(1))
    return float(least.sum() / (blocks**2).sum())


# -- quality ---------------------------------------------------------------------------------------------------------

KINDS = ["a bell curve", "heavy tails", "outlier channels", "a shifted mean"]


@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_four_bits_lose_less_than_rounding(kind: str, block: int) -> None:
    floats = weights(kind)
    assert relative_error(floats, 4, block) < 0.95 * rounded_error(floats, block)


@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_four_bits_lose_hardly_more_than_an_exhaustive_search(kind: str, block: int) -> None:
    floats = weights(kind, rows=8)
    assert relative_error(floats, 4, block) < 1.04 * exhaustive_error(floats, block)


def test_the_error_of_a_bell_curve() -> None:
    errors = {coding: relative_error(weights("a bell curve", rows=256), *coding) for coding in CODINGS}
    known = {(4, 32): 0.00588, (4, 64): 0.00759, (4, 128): 0.00911, (8, 32): 2.9e-5, (8, 128): 4.2e-5}
    assert errors == pytest.approx(known, rel=0.02)


@pytest.mark.parametrize("block", [32, 64, 128])
def test_eight_bits_are_off_by_half_a_step_at_most(block: int) -> None:
    floats = weights("heavy tails")
    most = np.abs(floats.reshape(-1, block)).max(axis=1, keepdims=True)
    off = np.abs(restored(floats, 8, block) - floats).reshape(-1, block)
    assert (off <= most / 127 / 2 * 1.0001).all()


def test_what_fits_the_grid_is_kept() -> None:
    random = np.random.default_rng(1)
    codes = random.integers(0, 16, (4, 8, 32))
    codes[..., 0], codes[..., 1] = 0, 15
    zeros = random.integers(0, 16, (4, 8, 1))
    floats = ((codes - zeros) * random.uniform(0.01, 1, (4, 8, 1))).astype(np.float32).reshape(4, 256)
    np.testing.assert_allclose(restored(floats, 4, 32), floats, rtol=1e-5, atol=1e-6)


# -- form ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "block"), CODINGS)
def test_the_form_is_that_of_the_coding(bits: int, block: int) -> None:
    coded = quantize_rows(weights("a bell curve", rows=3), coding_for(bits, block))
    assert (coded.codes.shape, coded.codes.dtype) == ((3, 1024), np.uint8)
    assert (coded.scales.shape, coded.scales.dtype) == ((3, 1024 // block), np.float32)
    assert coded.codes.max() < 1 << bits
    assert coded.corrections is None
    if bits == 8:
        assert coded.zero_points is None
    else:
        assert coded.zero_points is not None
        assert (coded.zero_points.shape, coded.zero_points.dtype) == (coded.scales.shape, np.uint8)
        assert coded.zero_points.max() < 16


@pytest.mark.parametrize(("bits", "block"), CODINGS)
def test_rows_do_not_depend_on_their_neighbors(bits: int, block: int) -> None:
    """Large enough for several pieces and threads."""
    floats, coding = weights("heavy tails", rows=300), coding_for(bits, block)
    whole, part = quantize_rows(floats, coding), quantize_rows(floats[100:117], coding)
    np.testing.assert_array_equal(whole.codes[100:117], part.codes)
    np.testing.assert_array_equal(whole.scales[100:117], part.scales)


def test_the_rows_of_the_caller_are_left_alone() -> None:
    floats = weights("a bell curve")
    before = floats.copy()
    quantize_rows(floats, coding_for(4, 32))
    quantize_rows(floats[:, ::-1], coding_for(4, 32))
    np.testing.assert_array_equal(floats, before)


# -- odd weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "block"), CODINGS)
def test_zeros_stay_zeros(bits: int, block: int) -> None:
    floats = weights("a bell curve", rows=2)
    floats[0, :block] = 0
    floats[1] = 0
    values = restored(floats, bits, block)
    assert not values[0, :block].any()
    assert not values[1].any()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("value", [1.0, -1.0, 3e-20, -1e30, 1e-44])
def test_blocks_of_one_number(bits: int, value: float) -> None:
    floats = np.full((1, 64), value, dtype=np.float32)
    np.testing.assert_allclose(restored(floats, bits, 32), floats, rtol=1e-5, atol=1e-30)


@settings(max_examples=60, deadline=None)
@given(npst.arrays(np.float32, (2, 64), elements=st.floats(-LARGEST, LARGEST, width=32)), st.sampled_from([4, 8]))
def test_any_finite_weight_becomes_finite_weights(floats: Floats, bits: int) -> None:
    values = restored(floats, bits, 32)
    assert np.isfinite(values).all()
    blocks, found = floats.reshape(4, 32).astype(np.float64), values.reshape(4, 32).astype(np.float64)
    width = blocks.max(1) - blocks.min(1) + np.abs(blocks).max(1)
    assert (np.abs(found - blocks).max(1) <= width * 0.5 + 1e-29).all()


# -- which weights get 8 bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "inputs", "bits"),
    [
        ("lm_head.weight", 2048, 8),
        ("model.embed_tokens.weight", 2048, 8),
        ("model.layers.5.self_attn.v_proj.weight", 2048, 8),
        ("model.language_model.layers.5.self_attn.v_proj.weight", 2048, 8),
        ("model.layers.5.self_attn.q_proj.weight", 2048, 4),
        ("model.layers.5.self_attn.q_proj.weight", 576, 8),
        ("model.layers.5.self_attn.o_proj.weight", 576, 8),
        ("model.layers.5.mlp.up_proj.weight", 576, 4),
        ("model.layers.5.mlp.gate_up_proj.weight", 3072, 4),
        ("model.layers.1.mlp.down_proj.weight", 8192, 8),
        ("model.layers.2.mlp.down_proj.weight", 8192, 4),
        ("model.layers.4.mlp.down_proj.weight", 8192, 8),
        ("model.layers.12.mlp.down_proj.weight", 8192, 4),
        ("model.layers.14.mlp.down_proj.weight", 8192, 8),
        ("model.layers.15.mlp.experts.down_proj.weight", 768, 8),
        ("model.layers.1.self_attn.qkv_proj.weight", 3072, 8),
        ("model.layers.2.self_attn.qkv_proj.weight", 3072, 4),
    ],
)
def test_sensitive_weights_get_eight_bits(name: str, inputs: int, bits: int) -> None:
    assert bits_for(name, 16, inputs) == bits


def test_eight_bits_are_a_small_part_of_a_wide_model() -> None:
    """With the shapes of Llama 3 8B."""
    sizes = {"q_proj": 16, "k_proj": 4, "v_proj": 4, "o_proj": 16, "gate_proj": 56, "up_proj": 56, "down_proj": 56}
    parts = [
        (size, bits_for(f"model.layers.{n}.x.{name}.weight", 32, 4096))
        for n in range(32)
        for name, size in sizes.items()
    ]
    assert 0.1 < sum(size for size, bits in parts if bits == 8) / sum(size for size, _ in parts) < 0.16
