"""Frequencies and tables against those of transformers, which tools/make_rope_cases.py recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.model_config import ModelConfig, Rope, parse_model_config
from lmsupply_cli.importer.rope import Rotary, make_rotary

CASES: dict[str, Any] = json.loads((Path(__file__).parent / "cases" / "rope.json").read_text(encoding="utf-8"))
DIGIT = 2.0**-23  # the last one of a float32
LONG = [name for name, case in CASES.items() if "long" in case]
BASE = {
    "model_type": "llama", "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 8,
    "intermediate_size": 8, "max_position_embeddings": 64,
}  # fmt: skip


def parsed(config: dict[str, Any]) -> ModelConfig:
    return parse_model_config({"model_type": "llama"} | config)


def of(**values: Any) -> Rotary:
    config = parsed(BASE | values)
    return make_rotary(config.rope, config)


def assert_same(rotary: Rotary, case: dict[str, Any]) -> None:
    assert rotary.frequencies.dtype == np.float32
    np.testing.assert_allclose(rotary.frequencies, np.array(case["frequencies"], np.float32), rtol=DIGIT, atol=0)
    assert rotary.attention_factor == pytest.approx(case["factor"], rel=1e-8)
    cos, sin = rotary.tables(0, max(case["rows"]) + 1)
    for position, cos_row, sin_row in zip(case["rows"], case["cos"], case["sin"], strict=True):
        near = 2 * DIGIT * (1 + position * np.abs(case["frequencies"]))  # what the last digit of a frequency turns
        assert np.all(np.abs(cos[position] - cos_row) <= near)
        assert np.all(np.abs(sin[position] - sin_row) <= near)


@pytest.mark.parametrize("name", CASES)
def test_as_transformers_has_it(name: str) -> None:
    case = CASES[name]
    config = parsed(case["config"])
    assert_same(make_rotary(config.rope, config), case)


def test_layers_with_a_window_have_their_own_base() -> None:
    case = CASES["two bases"]
    config = parsed(case["config"])
    assert config.local_rope is not None
    assert_same(make_rotary(config.local_rope, config), case["local"])


@pytest.mark.parametrize("name", LONG)
def test_longrope_has_another_set_beyond_the_border(name: str) -> None:
    case = CASES[name]
    config = parsed(case["config"])
    rotary = make_rotary(config.rope, config)
    assert rotary.border == case["border"]
    assert rotary.long is not None
    assert rotary.long.attention_factor == rotary.attention_factor
    np.testing.assert_allclose(rotary.long.frequencies, np.array(case["long"], np.float32), rtol=DIGIT, atol=0)


def test_longrope_within_its_original_context_has_one_set() -> None:
    config = parsed(CASES["longrope"]["config"] | {"max_position_embeddings": 4096})
    rotary = make_rotary(config.rope, config)
    assert rotary.long is None
    assert rotary.attention_factor == 1.0


def test_tables_are_the_same_in_any_piece() -> None:
    rotary = of(max_position_embeddings=20_000)
    cos, sin = rotary.tables(0, 9000)
    assert cos.shape == sin.shape == (9000, 16)
    assert np.array_equal(cos[4000:4500], rotary.tables(4000, 4500)[0])
    angles = np.float32(8999) * rotary.frequencies
    np.testing.assert_allclose(sin[8999], np.sin(angles.astype(np.float64)), atol=1e-7)


def test_factors_of_a_gguf_file_give_what_llama3_gives() -> None:
    """llama.cpp stores the divisors of llama3, in float32, instead of its rule."""
    config = parsed(CASES["llama3"]["config"])
    expected = make_rotary(config.rope, config)
    plain = make_rotary(Rope("default", config.rope.theta, config.rope.dim, {}), config)
    divisors = (plain.frequencies / expected.frequencies).tolist()
    rotary = make_rotary(Rope("factors", config.rope.theta, config.rope.dim, {"factors": divisors}), config)
    np.testing.assert_allclose(rotary.frequencies, expected.frequencies, rtol=2 * DIGIT)


@pytest.mark.parametrize(
    ("scaling", "named"),
    [
        ({"type": "magic"}, "magic"),
        ({"type": "linear"}, "factor"),
        ({"type": "linear", "factor": 0}, "factor"),
        ({"type": "linear", "factor": -1.0}, "factor"),
        ({"type": "linear", "factor": True}, "factor"),
        ({"type": "linear", "factor": "8"}, "factor"),
        ({"type": "linear", "factor": math.nan}, "factor"),
        ({"type": "linear", "factor": 10**400}, "factor"),
        ({"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}, "high_freq_factor"),
        ({"type": "yarn", "factor": 4, "mscale": "a", "mscale_all_dim": 1}, "mscale"),
        ({"type": "yarn", "factor": 4, "original_max_position_embeddings": 1}, "original_max_position_embeddings"),
        ({"type": "longrope", "short_factor": [1.0] * 16}, "long_factor"),
        ({"type": "longrope", "short_factor": [1.0] * 15, "long_factor": [1.0] * 16}, "short_factor"),
        ({"type": "longrope", "short_factor": [1.0] * 16, "long_factor": [0] * 16}, "long_factor"),
        ({"type": "longrope", "short_factor": [1.0] * 16, "long_factor": [10**400] * 16}, "long_factor"),
        ({"type": "longrope", "short_factor": "1" * 16, "long_factor": [1] * 16}, "short_factor"),
        ({"type": "factors", "factors": [1.0] * 3}, "factors"),
        ({"type": "factors", "factors": {}}, "factors"),
    ],
)
def test_a_scaling_that_makes_no_sense_is_named(scaling: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelFilesError, match=named) as error:
        of(rope_scaling=scaling)
    assert error.value.hint
    assert "\n" not in error.value.message


def test_a_base_that_leads_to_infinity_is_refused() -> None:
    with pytest.raises(ModelFilesError, match="not finite"):
        of(rope_theta=1e-300)


def test_yarn_with_a_base_of_one_is_refused() -> None:
    with pytest.raises(ModelFilesError, match="base"):
        of(rope_theta=1.0, rope_scaling={"type": "yarn", "factor": 4.0})
