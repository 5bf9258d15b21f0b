"""A GGUF file as a repository of transformers: config, names, rows."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.gguf_files import (
    PARTS,
    Blocks,
    Sizes,
    key,
    model_metadata,
    model_tensors,
    quantized,
    raw_gguf,
    text,
    write_gguf,
)

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.hub.licenses import tier_of
from lmsupply_cli.importer.architectures import estimate
from lmsupply_cli.importer.forms import Wish
from lmsupply_cli.importer.gguf_source import GgufSource, open_gguf
from lmsupply_cli.importer.source import Source

SIZES = Sizes()
Values = dict[str, "NDArray[Any] | Blocks"]


def opened(
    folder: Path, architecture: str, metadata: dict[str, Any] | None = None, tensors: Values | None = None, *,
    without: tuple[str, ...] = (), sizes: Sizes = SIZES, tied: bool = True,
) -> GgufSource:  # fmt: skip
    """A tiny model with other metadata, other tensors, or fewer."""
    values: Values = {**model_tensors(architecture, sizes, tied=tied), **(tensors or {})}
    entries = model_metadata(architecture, sizes) | (metadata or {})
    values = {name: value for name, value in values.items() if name not in without}
    entries = {name: value for name, value in entries.items() if name not in without}
    return open_gguf(write_gguf(folder / "m.gguf", architecture, entries, values))


def permuted(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """As llama.cpp's converter does it."""
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


# names


LAYER = {
    "llama": "input_layernorm post_attention_layernorm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj",
    "qwen2": "input_layernorm post_attention_layernorm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj",
    "qwen3": "input_layernorm post_attention_layernorm self_attn.q_norm self_attn.k_norm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj",
    "qwen3moe": "input_layernorm post_attention_layernorm self_attn.q_norm self_attn.k_norm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate mlp.experts.gate_proj mlp.experts.up_proj mlp.experts.down_proj",
    "phi3": "input_layernorm post_attention_layernorm self_attn.qkv_proj self_attn.o_proj mlp.gate_up_proj mlp.down_proj",
    "gemma2": "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj",
    "gemma3": "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm self_attn.q_norm self_attn.k_norm self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj",
}  # fmt: skip


@pytest.mark.parametrize("architecture", PARTS)
def test_tensors_have_the_names_and_values_of_transformers(tmp_path: Path, architecture: str) -> None:
    source: Source = opened(tmp_path, architecture, tied=False)
    stored = model_tensors(architecture, tied=False)
    expected = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for layer in range(SIZES.layers):
        pairs = zip(LAYER[architecture].split(), PARTS[architecture], strict=True)
        expected |= {f"model.layers.{layer}.{new}.weight": f"blk.{layer}.{old}.weight" for new, old in pairs}
    assert source.tensors.keys() == expected.keys()
    for name, tensor in source.tensors.items():
        old = expected[name]
        values = stored[old]
        assert (tensor.name, tensor.shape, tensor.kind, tensor.size_bytes, tensor.coding) == (
            name,
            values.shape,
            "F32",
            values.nbytes,
            None,
        )
        read = tensor.floats().reshape(values.shape)
        if architecture == "llama" and ("attn_q" in old or "attn_k" in old):
            read = permuted(read, SIZES.heads if "attn_q" in old else SIZES.kv_heads)
        assert np.array_equal(read, values)


def test_experts_are_rows_of_one_tensor(tmp_path: Path) -> None:
    source = opened(tmp_path, "qwen3moe")
    up = source.tensors["model.layers.1.mlp.experts.up_proj.weight"]
    values = model_tensors("qwen3moe")["blk.1.ffn_up_exps.weight"]
    assert up.shape == (SIZES.experts, SIZES.inner, SIZES.hidden)
    assert np.array_equal(up.floats(SIZES.inner, SIZES.inner + 2), values[1, :2])


@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 1), (3, 5), (13, 40), (16, 32), (63, 64)])
def test_any_rows_of_a_permuted_tensor_can_be_read(tmp_path: Path, start: int, stop: int | None) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (SIZES.heads * SIZES.head, SIZES.hidden)).astype(np.float32)
    blocks = quantized("Q8_0", permuted(weights, SIZES.heads))
    tensor = opened(tmp_path, "llama", tensors={"blk.0.attn_q.weight": blocks}).tensors[
        "model.layers.0.self_attn.q_proj.weight"
    ]
    assert tensor.coding is not None
    expected = quantized("Q8_0", weights[start:stop])
    scales = expected.data.reshape(len(expected.data), -1, 34)[..., :2].copy().view(np.float16)[..., 0]
    coded = tensor.coded(start, stop)
    assert np.array_equal(coded.scales, scales.astype(np.float32))
    assert np.array_equal(coded.floats(tensor.coding), tensor.floats(start, stop))
    np.testing.assert_allclose(tensor.floats(start, stop), weights[start:stop], atol=0.02)


def test_biases_are_found_and_permuted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    biases = {f"blk.{layer}.attn_{part}.bias": rng.normal(0, 1, SIZES.shape("llama", f"attn_{part}")[0]).astype(np.float32)
              for layer in range(2) for part in ("q", "k", "v")}  # fmt: skip
    source = opened(tmp_path, "llama", tensors=dict(biases))
    assert source.config["attention_bias"] is True
    prefix = "model.layers.1.self_attn"
    for part, heads in (("q", SIZES.heads), ("k", SIZES.kv_heads)):
        read = source.tensors[f"{prefix}.{part}_proj.bias"].floats()
        assert read.shape == (1, heads * SIZES.head)
        assert np.array_equal(permuted(read[0], heads), biases[f"blk.1.attn_{part}.bias"])
    assert np.array_equal(source.tensors[f"{prefix}.v_proj.bias"].floats()[0], biases["blk.1.attn_v.bias"])
    plain = opened(tmp_path, "qwen2", tensors=dict(biases))
    assert np.array_equal(plain.tensors[f"{prefix}.q_proj.bias"].floats()[0], biases["blk.1.attn_q.bias"])
    assert opened(tmp_path, "qwen2").config["attention_bias"] is False


# config


def test_the_config_has_the_keys_of_transformers(tmp_path: Path) -> None:
    tokens = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 95}
    source = opened(
        tmp_path,
        "llama",
        tokens | {".context_length": 8192, ".rope.freq_base": 500_000.0, ".attention.layer_norm_rms_epsilon": 1e-5},
        tied=False,
    )
    assert source.config == {
        "model_type": "llama", "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 500_000.0, "tie_word_embeddings": False,
        "attention_bias": False, "bos_token_id": 1, "eos_token_id": 95,
    }  # fmt: skip
    assert json.loads(json.dumps(source.config)) == source.config
    assert (source.name, source.license, source.format, source.folded_norms) == ("Tiny llama", "mit", "GGUF", True)
    assert source.files == (tmp_path / "m.gguf",)
    assert source.generation == {}


def test_what_a_file_leaves_out_is_as_llama_cpp_takes_it(tmp_path: Path) -> None:
    without = (
        ".attention.head_count_kv",
        ".attention.key_length",
        ".attention.value_length",
        ".rope.freq_base",
        "general.name",
        "general.license",
    )
    tensors: Values = {
        f"blk.{layer}.attn_{part}.weight": np.zeros((64, 64), np.float32) for layer in range(2) for part in "kv"
    }
    tokens = {"tokenizer.ggml.bos_token_id": 0xFFFFFFFF}
    source = opened(tmp_path, "llama", tokens, tensors, without=without)
    assert (source.config["num_key_value_heads"], source.config["head_dim"], source.config["rope_theta"]) == (
        4,
        16,
        10_000.0,
    )
    assert source.config["tie_word_embeddings"] is True
    assert "bos_token_id" not in source.config
    assert (source.name, source.license) == ("", "")


@pytest.mark.parametrize(
    ("metadata", "license", "tier"),
    [
        ({"general.license": "other", "general.license.name": "Qwen-Research"}, "qwen-research", "research"),
        ({"general.license": "Other", "general.license.name": " "}, "other", "unknown"),
        ({"general.license": "other"}, "other", "unknown"),
        ({"general.license": "mit", "general.license.name": "qwen-research"}, "mit", "permissive"),
    ],
)
def test_another_license_goes_by_its_name(tmp_path: Path, metadata: dict[str, Any], license: str, tier: str) -> None:
    found = opened(tmp_path, "llama", metadata).license
    assert (found, tier_of(found)) == (license, tier)


def test_values_for_each_layer_must_be_the_same(tmp_path: Path) -> None:
    assert opened(tmp_path, "llama", {".attention.head_count_kv": [2, 2]}).config["num_key_value_heads"] == 2
    with pytest.raises(
        ModelFilesError, match=r"its layers differ in llama.feed_forward_length, which is not supported"
    ):
        opened(tmp_path, "llama", {".feed_forward_length": [96, 128]})


def test_recommended_sampling_is_passed_on(tmp_path: Path) -> None:
    sampling = {"temp": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.0, "penalty_repeat": 1.1, "mirostat": 1}
    source = opened(tmp_path, "qwen3", {f"general.sampling.{name}": value for name, value in sampling.items()})
    assert source.generation == {
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "min_p": 0.0,
        "repetition_penalty": 1.1,
    }


def test_qwen3moe(tmp_path: Path) -> None:
    config = opened(tmp_path, "qwen3moe").config
    wanted = {
        "model_type": "qwen3_moe",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 96,
        "norm_topk_prob": True,
    }
    assert wanted.items() <= config.items()
    older = opened(tmp_path, "qwen3moe", {".feed_forward_length": 192}, without=(".expert_feed_forward_length",))
    assert older.config["moe_intermediate_size"] == 96


def test_llama_with_experts_is_mixtral(tmp_path: Path) -> None:
    dense = tuple(f"blk.{layer}.ffn_{part}.weight" for layer in range(2) for part in ("gate", "up", "down"))
    experts = {
        name: values for name, values in model_tensors("qwen3moe").items() if "exps" in name or "gate_inp" in name
    }
    metadata = {".expert_count": 4, ".expert_used_count": 2}
    source = opened(tmp_path, "llama", metadata, dict(experts), without=dense)
    wanted = {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 96}
    assert wanted.items() <= source.config.items()
    down = source.tensors["model.layers.1.mlp.experts.down_proj.weight"]
    assert np.array_equal(down.floats(), experts["blk.1.ffn_down_exps.weight"].reshape(-1, SIZES.inner))
    query = source.tensors["model.layers.1.self_attn.q_proj.weight"].floats()
    assert np.array_equal(permuted(query, SIZES.heads), model_tensors("llama")["blk.1.attn_q.weight"])


def test_gemma2(tmp_path: Path) -> None:
    config = opened(tmp_path, "gemma2", {".attention.sliding_window": 128, ".final_logit_softcapping": 20.0}).config
    wanted = {
        "model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16.0, "sliding_window": 128,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 20.0, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    assert wanted.items() <= config.items()
    assert "sliding_window" not in opened(tmp_path, "gemma2").config  # 4096, and the context is shorter


def test_gemma3(tmp_path: Path) -> None:
    sizes = replace(SIZES, layers=7)
    metadata = {
        ".attention.sliding_window": 128,
        ".rope.freq_base": 1e6,
        ".rope.scaling.type": "linear",
        ".rope.scaling.factor": 8.0,
    }
    config = opened(tmp_path, "gemma3", metadata, sizes=sizes).config
    wanted = {
        "model_type": "gemma3_text", "query_pre_attn_scalar": 16.0, "sliding_window": 128, "rope_theta": 1e6,
        "rope_local_base_freq": 10_000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
    }  # fmt: skip
    assert wanted.items() <= config.items()
    assert "final_logit_softcapping" not in config
    listed = opened(tmp_path, "gemma3", metadata | {".attention.sliding_window_pattern": [False, True]}).config
    assert listed["layer_types"] == ["full_attention", "sliding_attention"]
    dense = opened(tmp_path, "gemma3").config
    assert not {"sliding_window", "layer_types", "rope_local_base_freq"} & dense.keys()


@pytest.mark.parametrize(
    ("architecture", "layers", "scalar"), [("gemma2", 46, 24.0), ("gemma3", 62, 24.0), ("gemma2", 62, 16.0)]
)
def test_the_largest_gemma_scales_queries_by_the_hidden_size_per_head(
    tmp_path: Path, architecture: str, layers: int, scalar: float
) -> None:
    sizes = Sizes(hidden=48, inner=8, layers=layers, heads=2, kv_heads=1, head=16, vocabulary=8)
    assert opened(tmp_path, architecture, sizes=sizes).config["query_pre_attn_scalar"] == scalar


def test_phi3_has_two_lists_of_factors(tmp_path: Path) -> None:
    factors: Values = {
        f"rope_factors_{name}.weight": np.array(values, np.float32)
        for name, values in (("long", [1, 2, 4, 8]), ("short", [1, 1, 1.5, 2]))
    }
    metadata = {
        ".rope.dimension_count": 8,
        ".rope.scaling.original_context_length": 64,
        ".rope.scaling.attn_factor": 1.25,
        ".attention.sliding_window": 100,
    }
    config = opened(tmp_path, "phi3", metadata, factors).config
    assert config["rope_scaling"] == {
        "rope_type": "longrope", "long_factor": [1.0, 2.0, 4.0, 8.0], "short_factor": [1.0, 1.0, 1.5, 2.0],
        "original_max_position_embeddings": 64, "factor": 4.0, "attention_factor": 1.25,
    }  # fmt: skip
    assert (config["partial_rotary_factor"], config["sliding_window"]) == (0.5, 100)
    with pytest.raises(ModelFilesError, match=r"the tensor rope_factors_short.weight is missing"):
        opened(tmp_path, "phi3", metadata, factors, without=("rope_factors_short.weight",))


@pytest.mark.parametrize(("rotated", "head"), [(24, 32), (22, 58), (14, 98), (74, 94), (86, 100)])
def test_the_rotated_part_of_a_head_is_a_fraction_that_comes_out_even(tmp_path: Path, rotated: int, head: int) -> None:
    sizes = replace(SIZES, head=head)
    fraction = opened(tmp_path, "qwen3", {".rope.dimension_count": rotated}, sizes=sizes).config[
        "partial_rotary_factor"
    ]
    assert int(head * fraction) == rotated


ONES = [1.0] * 8
SCALINGS: dict[str, tuple[dict[str, Any], list[float] | None, dict[str, Any] | None]] = {
    "nothing": ({}, None, None),
    "no type": ({"scaling.factor": 4.0}, None, {"rope_type": "linear", "factor": 4.0}),
    "the old key": ({"scale_linear": 4.0}, None, {"rope_type": "linear", "factor": 4.0}),
    "a factor of 0": ({"scaling.factor": 0.0}, None, None),
    "none": ({"scaling.type": "none", "scaling.factor": 4.0}, None, None),
    "llama 3": ({}, [1.0] * 4 + [8.0] * 4, {"rope_type": "factors", "factors": [1.0] * 4 + [8.0] * 4, "attention_factor": 1.0}),
    "both": ({"scaling.factor": 2.0}, [1.0] * 4 + [8.0] * 4, {"rope_type": "factors", "factors": [2.0] * 4 + [16.0] * 4, "attention_factor": 1.0}),
    "ones": ({}, ONES, None),
    "attention": ({"scaling.attn_factor": 1.5}, None, {"rope_type": "factors", "factors": ONES, "attention_factor": 1.5}),
    "yarn": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 64, "scaling.yarn_beta_fast": 16.0, "scaling.yarn_attn_factor": 1.125},
        None,
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16.0, "attention_factor": 1.125},
    ),
    "yarn with a multiplier": (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 64, "scaling.yarn_log_multiplier": 0.5},
        None,
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "mscale": 1.0, "mscale_all_dim": 0.5},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SCALINGS)
def test_rope_scaling(tmp_path: Path, case: str) -> None:
    rope, factors, expected = SCALINGS[case]
    tensors: Values = {} if factors is None else {"rope_freqs.weight": np.array(factors, np.float32)}
    source = opened(tmp_path, "llama", {f".rope.{name}": value for name, value in rope.items()}, tensors)
    assert source.config.get("rope_scaling") == expected
    assert "rope_freqs.weight" not in source.tensors


# what cannot be imported


def refused(folder: Path, *args: Any, **options: Any) -> str:
    with pytest.raises(ModelFilesError) as caught:
        opened(folder, *args, **options)
    assert caught.value.hint
    prefix = f"{folder / 'm.gguf'}: "
    assert caught.value.message.startswith(prefix)
    return caught.value.message.removeprefix(prefix)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path, "llama", without=("blk.1.ffn_up.weight",)) == "the tensor blk.1.ffn_up.weight is missing"
    assert refused(tmp_path, "llama", without=("token_embd.weight",)) == "the tensor token_embd.weight is missing"
    message = refused(tmp_path, "llama", {".block_count": 3})
    assert (
        message == "the tensors blk.2.attn_norm.weight, blk.2.attn_q.weight, blk.2.attn_k.weight and 6 more are missing"
    )


def test_tensors_without_a_place_are_named(tmp_path: Path) -> None:
    zeros = np.zeros(64, np.float32)
    for name in (
        "blk.0.attn_sinks.weight",
        "blk.9.attn_norm.weight",
        "blk.0.attn_q.scale",
        "blk.00.attn_norm.weight",
        "v.patch_embd.weight",
        "plain",
    ):
        assert (
            refused(tmp_path, "llama", tensors={name: zeros})
            == f"the tensor {name} is not part of the architecture llama"
        )
    assert (
        opened(tmp_path, "llama", tensors={"blk.0.attn_rot_embd.weight": zeros}).tensors.keys()
        == opened(tmp_path, "llama").tensors.keys()
    )


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({".attention.head_count": 0}, "llama.attention.head_count is 0"),
        ({".attention.value_length": 8}, "keys and values have heads of different sizes, which is not supported"),
        ({".attention.key_length": 7, ".attention.value_length": 7}, "its heads have 7 numbers"),
        ({".rope.dimension_count": 32}, "llama.rope.dimension_count is 32, but heads have 16 numbers"),
        ({".block_count": 4_000_000_000}, "it has 20 tensors for 4000000000 layers"),
        ({".attention.head_count": 8}, "the tensor blk.0.attn_q.weight has 64 rows instead of 128"),
        ({".rope.scaling.type": "dynamic"}, "its rope scaling is dynamic, which is not supported"),
        ({".rope.scaling.type": "yarn", ".rope.scaling.yarn_ext_factor": 0.5}, "it changes its rope scaling (yarn) in a way that is not supported"),
        ({".context_length": "long"}, "llama.context_length must be a whole number, 0 or more, not 'long'"),
        ({"general.license": 3}, "general.license must be text, not 3"),
    ],
)  # fmt: skip
def test_metadata_that_makes_no_sense_is_named(tmp_path: Path, metadata: dict[str, Any], says: str) -> None:
    assert refused(tmp_path, "llama", metadata) == says


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    weights = np.ones((96, 64), np.float32)
    weights[5, 7] = value
    blocks = quantized("Q4_1", np.ones((96, 64)))
    blocks.data[5, 2:4] = np.array([value], np.float16).view(np.uint8)
    tensors: Values = {"blk.0.ffn_up.weight": weights, "blk.0.ffn_gate.weight": blocks}
    source = opened(tmp_path, "llama", tensors=tensors)
    up, gate = (source.tensors[f"model.layers.0.mlp.{part}_proj.weight"] for part in ("up", "gate"))
    assert up.floats(6).shape == gate.coded(6).codes.shape == (90, 64)
    for read in (up.floats, gate.floats, gate.coded):
        with pytest.raises(ModelFilesError, match=r"m.gguf: the tensor blk.0.ffn_\w+.weight contains NaN or infinity"):
            read(5, 6)


@pytest.mark.parametrize("values", [[1.0] * 7, [1.0] * 7 + [0.0], [1.0] * 7 + [np.nan]])
def test_factors_that_make_no_sense_are_named(tmp_path: Path, values: list[float]) -> None:
    message = refused(tmp_path, "llama", tensors={"rope_freqs.weight": np.array(values, np.float32)})
    assert message.startswith("the tensor rope_freqs.weight ")


@pytest.mark.parametrize(
    "metadata", [{".expert_used_count": 0}, {".expert_used_count": 5}, {".expert_weights_scale": 2.5}]
)
def test_experts_that_make_no_sense_are_named(tmp_path: Path, metadata: dict[str, Any]) -> None:
    assert "experts" in refused(tmp_path, "qwen3moe", metadata)


def test_a_tensor_in_a_type_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    blocks = Blocks("Q8_1", np.zeros((96, 2 * 40), np.uint8))
    assert (
        refused(tmp_path, "llama", tensors={"blk.0.ffn_up.weight": blocks})
        == "the tensor blk.0.ffn_up.weight is in Q8_1, which cannot be read"
    )


@pytest.mark.parametrize(
    ("keys", "says", "hint"),
    [
        ({"general.architecture": "mamba"}, ": the architecture mamba is not supported", "gemma2, gemma3, llama, phi3, qwen2, qwen3, qwen3moe"),
        ({"general.architecture": "\x1b[2J"}, r": the architecture \x1b[2J is not supported", "llama"),
        ({"general.architecture": "clip"}, " is a part of a multimodal model, not a language model", "language model"),
        ({"general.architecture": "llama", "general.type": "adapter"}, " is an adapter (LoRA), not a language model", "language model"),
        ({}, ": the metadata has no general.architecture", "download"),
    ],
)  # fmt: skip
def test_another_kind_of_model_is_named(tmp_path: Path, keys: dict[str, str], says: str, hint: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf([key(name, "text", text(value)) for name, value in keys.items()]))
    with pytest.raises(ModelFilesError) as caught:
        open_gguf(path)
    assert caught.value.message == f"{path}{says}"
    assert hint in caught.value.hint


def test_the_tokenizer_is_that_of_the_file(tmp_path: Path) -> None:
    tokens = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.tokens": ["<s>", "</s>", "a", "b", "ab"],
        "tokenizer.ggml.token_type": [3, 3, 1, 1, 1], "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1,
    }  # fmt: skip
    facts = opened(tmp_path, "llama", tokens).write_tokenizer(tmp_path)
    assert (facts.bos_id, facts.eos_ids) == (0, (1,))
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"] == [["a", "b"]]


@pytest.mark.parametrize("architecture", PARTS)
def test_any_damage_of_the_header_is_an_error_of_ours_or_none(tmp_path: Path, architecture: str) -> None:
    metadata = {".rope.scaling.type": "linear", ".rope.scaling.factor": 2.0, ".attention.sliding_window": 8}
    path = write_gguf(
        tmp_path / "m.gguf", architecture, model_metadata(architecture) | metadata, dict(model_tensors(architecture))
    )
    good, rng, refused = path.read_bytes(), random.Random(int(os.environ.get("FUZZ_SEED", "1"))), 0
    end = good.index(b"blk.1.attn_norm")
    for _ in range(int(100 * float(os.environ.get("FUZZ_TIMES", "1")))):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(end)] = rng.choice((0, 1, 2, 4, 6, 8, 9, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(data)
        try:
            estimate(open_gguf(path), Wish())
        except ModelFilesError:
            refused += 1
    assert refused > 20
