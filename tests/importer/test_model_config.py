"""config.json of many spellings, and of none that makes sense."""

from __future__ import annotations

from typing import Any

import pytest

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.model_config import Rope, parse_model_config

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
}
WINDOWED = {**LLAMA, "model_type": "mistral", "num_key_value_heads": 4}


def test_what_a_config_may_leave_out() -> None:
    config = parse_model_config(LLAMA)
    assert (config.kv_heads, config.head_dim) == (4, 16)
    assert (config.activation, config.norm_epsilon, config.tied) == ("silu", 1e-6, False)
    assert (config.sliding_window, config.sliding_layers) == (0, (False,) * 4)
    assert config.rope == Rope("default", 10_000.0, 16, {})


def test_null_is_the_same_as_nothing() -> None:
    keys = ("head_dim", "num_key_value_heads", "sliding_window", "rope_scaling", "rope_parameters", "layer_types")
    assert parse_model_config({**LLAMA, **dict.fromkeys(keys)}).rope == parse_model_config(LLAMA).rope


SCALING = {"factor": 8.0, "low_freq_factor": 1.0}


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 500_000, "rope_scaling": {"rope_type": "llama3", **SCALING}},
        {"rope_theta": 500_000, "rope_scaling": {"type": "llama3", **SCALING}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500_000.0, **SCALING}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500_000.0, **SCALING}, "rope_scaling": {"type": "x"}},
    ],
)
def test_both_spellings_of_rotary_scaling(spelling: dict[str, Any]) -> None:
    assert parse_model_config({**LLAMA, **spelling}).rope == Rope("llama3", 500_000.0, 16, SCALING)


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
    ],
)
def test_both_spellings_of_a_rotary_base_by_kind_of_layer(spelling: dict[str, Any]) -> None:
    config = parse_model_config({**LLAMA, **spelling})
    assert config.rope == Rope("linear", 1e6, 16, {"factor": 8.0})
    assert config.local_rope == Rope("default", 1e4, 16, {})


def test_part_of_a_head_is_rotated() -> None:
    assert parse_model_config({**LLAMA, "partial_rotary_factor": 0.5}).rope.dim == 8
    assert parse_model_config({**LLAMA, "rope_parameters": {"partial_rotary_factor": 0.75}}).rope.dim == 12


@pytest.mark.parametrize(
    ("keys", "sliding"),
    [
        ({}, (True, True, True, True)),
        ({"use_sliding_window": False}, (False, False, False, False)),
        ({"max_window_layers": 3}, (False, False, False, True)),
        ({"sliding_window_pattern": 2}, (True, False, True, False)),
        ({"layer_types": ["full_attention", "sliding_attention"] * 2}, (False, True, False, True)),
    ],
)
def test_which_layers_have_a_window(keys: dict[str, Any], sliding: tuple[bool, ...]) -> None:
    assert parse_model_config({**WINDOWED, "sliding_window": 128, **keys}).sliding_layers == sliding


@pytest.mark.parametrize(
    ("kind", "window"),
    [
        *[("llama", 0), ("mistral", 128), ("mixtral", 128), ("phi3", 128), ("gemma2", 128), ("gemma3_text", 128)],
        *[("qwen2", 0), ("qwen3", 0), ("qwen3_moe", 0)],
    ],
)
def test_which_families_have_a_window(kind: str, window: int) -> None:
    """Those of Qwen only with use_sliding_window."""
    config = {**LLAMA, "model_type": kind, "sliding_window": 128, "num_key_value_heads": 2}
    assert parse_model_config(config).sliding_window == window
    if kind.startswith("qwen"):
        assert parse_model_config({**config, "use_sliding_window": True}).sliding_window == 128


def test_of_a_multimodal_config_the_language_model_counts() -> None:
    config = {"model_type": "gemma3", "vision_config": {"hidden_size": 1}, "text_config": {**LLAMA, "head_dim": 32}}
    parsed = parse_model_config({**config, "tie_word_embeddings": True})
    assert (parsed.model_type, parsed.hidden_size, parsed.head_dim, parsed.tied) == ("llama", 64, 32, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocab_size", 0),
        ("vocab_size", 2**31),
        ("hidden_size", "64"),
        ("hidden_size", 66),
        ("hidden_size", True),
        ("num_hidden_layers", -1),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 3.0),
        ("num_key_value_heads", 3),
        ("head_dim", 15),
        ("head_dim", []),
        ("head_dim", 514),
        ("hidden_size", 4096),
        ("max_position_embeddings", 10**12),
        ("rms_norm_eps", float("nan")),
        ("rms_norm_eps", 10**400),
        ("rope_theta", 0),
        ("rope_theta", "1e6"),
        ("rope_scaling", [1]),
        ("rope_parameters", {"rope_type": 3}),
        ("partial_rotary_factor", 1.5),
        ("partial_rotary_factor", 1e308),
        ("tie_word_embeddings", "yes"),
        ("hidden_act", {"name": "silu"}),
        ("sliding_window", -5),
    ],
)
def test_a_value_that_makes_no_sense_is_named(key: str, value: object) -> None:
    with pytest.raises(ModelFilesError) as caught:
        parse_model_config({**WINDOWED, key: value})
    named = next(iter(value)) if key == "rope_parameters" and isinstance(value, dict) else key
    named = "head_dim" if (key, value) == ("hidden_size", 4096) else named
    assert f" {named} " in f"{caught.value.message} "
    assert caught.value.hint


@pytest.mark.parametrize(
    ("layer_types", "shown"),
    [
        ("full_attention", "list of 4"),
        (["full_attention"], "list of 4"),
        (["chunked_attention"] * 4, "chunked_attention"),
    ],
)
def test_layer_types_that_are_not_supported(layer_types: object, shown: str) -> None:
    with pytest.raises(ModelFilesError, match=shown):
        parse_model_config({**WINDOWED, "sliding_window": 8, "layer_types": layer_types})


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"])
def test_a_value_that_is_missing_is_named(key: str) -> None:
    config = {**LLAMA, "model_type": "unknown"}
    del config[key]
    with pytest.raises(ModelFilesError, match=f"has no {key}"):
        parse_model_config(config)


def test_values_of_one_family_are_checked_when_they_are_read() -> None:
    config = parse_model_config({**LLAMA, "num_experts": 8, "cap": 30, "norm": 1})
    assert (config.count("num_experts"), config.number("cap"), config.number("other", 2.5)) == (8, 30.0, 2.5)
    assert config.flag("missing") is False
    with pytest.raises(ModelFilesError, match="norm"):
        config.flag("norm")
    with pytest.raises(ModelFilesError, match="no experts"):
        config.count("experts")
