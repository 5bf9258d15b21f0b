"""GPTQ, AWQ and compressed-tensors: their codes are carried over bit for bit.

The packers here put one code after the other where the formats' documentation says it lies; what is read must give back
the codes, and with them the weights that the formula of each format defines.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.safetensors_files import write_model, write_safetensors

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.safetensors_source import open_safetensors
from lmsupply_cli.importer.weights import Coding, Tensor

MODULE = "model.layers.0.mlp.up_proj"
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass
class Layer:
    """A weight by the formula: `codes` [out, in], `zeros` and `scales` [out, groups], `order` [in] the group of an input."""

    bits: int
    codes: np.ndarray
    zeros: np.ndarray
    scales: np.ndarray
    order: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        zeros, scales = self.zeros[:, self.order].astype(np.float32), self.scales[:, self.order].astype(np.float32)
        return scales * (self.codes.astype(np.float32) - zeros)


def layer(bits: int = 4, outputs: int = 48, inputs: int = 256, group: int = 64, zero: int | None = None) -> Layer:
    random = np.random.default_rng(bits * outputs + inputs)
    groups = inputs // group
    zeros = random.integers(0, 1 << bits, (outputs, groups))
    return Layer(
        bits,
        random.integers(0, 1 << bits, (outputs, inputs)),
        zeros if zero is None else np.full_like(zeros, zero),
        random.uniform(0.001, 0.1, (outputs, groups)).astype(np.float16),
        np.arange(inputs) // group,
    )


def packed(codes: np.ndarray, bits: int, order: tuple[int, ...] | None = None) -> np.ndarray:
    """Along the last axis; place i of a word, from its lowest bits, holds the code number order[i]."""
    per_word = 32 // bits
    places = order or tuple(range(per_word))
    words = np.zeros((len(codes), codes.shape[1] // per_word), dtype=np.uint32)
    for row in range(len(codes)):
        for word in range(words.shape[1]):
            for place, number in enumerate(places):
                words[row, word] |= np.uint32(int(codes[row, word * per_word + number]) << (bits * place))
    return words.view(np.int32)


def gptq(one: Layer, shift: int = 1, module: str = MODULE) -> dict[str, np.ndarray]:
    stored = (one.zeros - shift) % (1 << one.bits)
    return {
        f"{module}.qweight": packed(one.codes, one.bits).T,
        f"{module}.qzeros": packed(stored.T, one.bits),
        f"{module}.scales": one.scales.T,
        f"{module}.g_idx": one.order.astype(np.int32),
    }


def awq(one: Layer) -> dict[str, np.ndarray]:
    return {
        f"{MODULE}.qweight": packed(one.codes.T, 4, AWQ_ORDER),
        f"{MODULE}.qzeros": packed(one.zeros.T, 4, AWQ_ORDER),
        f"{MODULE}.scales": one.scales.T,
    }


def compressed(one: Layer) -> dict[str, np.ndarray]:
    zeros = (
        {}
        if (one.zeros == 1 << (one.bits - 1)).all()
        else {f"{MODULE}.weight_zero_point": packed(one.zeros.T, one.bits).T}
    )
    return zeros | {
        f"{MODULE}.weight_packed": packed(one.codes, one.bits),
        f"{MODULE}.weight_scale": one.scales,
        f"{MODULE}.weight_shape": np.array(one.codes.shape, dtype=np.int64),
    }


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": False, "sym": True}
GPTQ_8 = GPTQ | {"bits": 8}
GPTQ_V2 = GPTQ | {"checkpoint_format": "gptq_v2"}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": True}


def compressed_config(bits: int = 4, **config: Any) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "strategy": "group", "group_size": 64, "symmetric": True}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups} | config


def opened(folder: Path, tensors: dict[str, Any], config: dict[str, Any] | None) -> Tensor:
    write_model(folder, tensors, **({} if config is None else {"quantization_config": config}))
    return open_safetensors(folder).tensors[f"{MODULE}.weight"]


# -- bit for bit -----------------------------------------------------------------------------------------------------

FORMATS: dict[str, tuple[Layer, Callable[[Layer], dict[str, Any]], dict[str, Any], str]] = {
    "GPTQ, 4 bits": (layer(4), gptq, GPTQ, "GPTQ 4-bit"),
    "GPTQ, 8 bits": (layer(8), gptq, GPTQ_8, "GPTQ 8-bit"),
    "GPTQ, version 2": (layer(4), lambda one: gptq(one, shift=0), GPTQ_V2, "GPTQ 4-bit"),
    "GPTQ, 8 bits for this weight only": (layer(8), gptq, GPTQ, "GPTQ 8-bit"),
    "AWQ": (layer(4), awq, AWQ, "AWQ 4-bit"),
    "pack-quantized, 4 bits": (layer(4), compressed, compressed_config(), "compressed-tensors 4-bit"),
    "pack-quantized, 8 bits": (layer(8), compressed, compressed_config(8), "compressed-tensors 8-bit"),
}


@pytest.mark.parametrize(("one", "pack", "config", "kind"), FORMATS.values(), ids=FORMATS)
def test_codes_zero_points_and_scales_are_carried_over(
    tmp_path: Path, one: Layer, pack: Callable[[Layer], dict[str, Any]], config: dict[str, Any], kind: str
) -> None:
    tensor = opened(tmp_path, pack(one), config)
    assert (tensor.kind, tensor.shape) == (kind, (48, 256))
    assert tensor.coding == Coding(one.bits, 64, zero_points=True)
    for start, stop in ((0, 48), (5, 21), (47, 48), (8, 16)):
        coded = tensor.coded(start, stop)
        np.testing.assert_array_equal(coded.codes, one.codes[start:stop])
        np.testing.assert_array_equal(coded.zero_points, one.zeros[start:stop])
        np.testing.assert_array_equal(coded.scales, one.scales[start:stop].astype(np.float32))
        assert coded.codes.dtype == np.uint8
        assert coded.scales.dtype == np.float32
        np.testing.assert_array_equal(coded.floats(tensor.coding), one.weights[start:stop])
        np.testing.assert_array_equal(tensor.floats(start, stop), one.weights[start:stop])


@pytest.mark.parametrize(
    ("bits", "pack", "config"),
    [
        (4, gptq, GPTQ),
        (8, gptq, GPTQ_8),
        (4, awq, AWQ),
        (4, compressed, compressed_config()),
        (8, compressed, compressed_config(8)),
    ],
)
def test_zero_points_in_the_middle_are_left_out(
    tmp_path: Path, bits: int, pack: Callable[[Layer], dict[str, Any]], config: dict[str, Any]
) -> None:
    one = layer(bits, zero=1 << (bits - 1))
    tensor = opened(tmp_path, pack(one), config)
    assert tensor.coding == Coding(bits, 64)
    coded = tensor.coded()
    assert coded.zero_points is None
    np.testing.assert_array_equal(coded.floats(tensor.coding), one.weights)


@pytest.mark.parametrize(("group", "block"), [(16, 16), (32, 32), (128, 128), (256, 128), (512, 128), (96, 32)])
def test_a_group_becomes_blocks_that_the_engine_runs(tmp_path: Path, group: int, block: int) -> None:
    one = layer(4, inputs=group * 2, group=group)
    tensor = opened(tmp_path, gptq(one), GPTQ | {"group_size": -1})
    assert tensor.coding == Coding(4, block, zero_points=True)
    coded = tensor.coded(3, 9)
    assert coded.scales.shape == (6, group * 2 // block)
    np.testing.assert_array_equal(coded.floats(tensor.coding), one.weights[3:9])


def test_scattered_groups_have_exact_floats_but_no_blocks(tmp_path: Path) -> None:
    one = layer()
    one.order = np.random.default_rng(0).permutation(one.order)
    tensor = opened(tmp_path, gptq(one), GPTQ | {"desc_act": True})
    assert tensor.coding is None
    np.testing.assert_array_equal(tensor.floats(), one.weights)
    np.testing.assert_array_equal(tensor.floats(9, 30), one.weights[9:30])
    with pytest.raises(ModelFilesError, match="no exact form"):
        tensor.coded()


def test_ordered_groups_are_blocks_whatever_the_config_says(tmp_path: Path) -> None:
    tensor = opened(tmp_path, gptq(layer()), GPTQ | {"desc_act": True})
    assert tensor.coding == Coding(4, 64, zero_points=True)


def test_what_is_not_quantized_stays_floats(tmp_path: Path) -> None:
    bias = np.ones(48, dtype=np.float16)
    write_model(tmp_path, gptq(layer()) | {f"{MODULE}.bias": bias, "model.norm.weight": bias}, quantization_config=GPTQ)
    source = open_safetensors(tmp_path)
    assert sorted(source.tensors) == [f"{MODULE}.bias", f"{MODULE}.weight", "model.norm.weight"]
    assert source.tensors[f"{MODULE}.bias"].coding is None
    assert source.tensors[f"{MODULE}.weight"].size_bytes == 48 * 256 // 2 + 4 * 48 // 2 + 4 * 48 * 2 + 256 * 4


def test_quantized_experts_are_joined_with_their_codes(tmp_path: Path) -> None:
    experts = [layer(outputs=16), layer(outputs=16, zero=8), layer(outputs=16)]
    prefix = "model.layers.0.mlp.experts"
    tensors: dict[str, Any] = {}
    for number, one in enumerate(experts):
        tensors |= gptq(one, module=f"{prefix}.{number}.gate_proj")
    write_model(tmp_path, tensors, quantization_config=GPTQ)
    tensor = open_safetensors(tmp_path).tensors[f"{prefix}.gate_proj.weight"]
    assert tensor.shape == (3, 16, 256)
    assert tensor.coding == Coding(4, 64, zero_points=True)
    coded = tensor.coded(10, 40)
    np.testing.assert_array_equal(coded.codes, np.concatenate([one.codes for one in experts])[10:40])
    np.testing.assert_array_equal(coded.zero_points, np.concatenate([one.zeros for one in experts])[10:40])


# -- where the method is said ----------------------------------------------------------------------------------------


def test_older_files_beside_the_weights_say_the_method(tmp_path: Path) -> None:
    one = layer()
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "quantize_config.json").write_text(json.dumps({"bits": 4, "group_size": 64, "desc_act": False}))
    np.testing.assert_array_equal(opened(tmp_path / "g", gptq(one), None).floats(), one.weights)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "quant_config.json").write_text(json.dumps({"w_bit": 4, "q_group_size": 64, "version": "GEMM"}))
    np.testing.assert_array_equal(opened(tmp_path / "a", awq(one), None).floats(), one.weights)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "the quantization method bitsandbytes"),
        ({"quant_method": "fp8"}, "the quantization method fp8"),
        ({"bits": 4}, "the quantization method None"),
        ({"quant_method": ["gptq"]}, "the quantization method"),
        (GPTQ | {"bits": 3}, "GPTQ with 3 bits"),
        (GPTQ | {"checkpoint_format": "marlin"}, "the GPTQ format marlin"),
        (AWQ | {"version": "gemv"}, "the AWQ version gemv"),
        (AWQ | {"bits": 8}, "AWQ with 8 bits"),
        (compressed_config(format="float-quantized"), "the compressed-tensors format float-quantized"),
        (compressed_config(config_groups={}), "compressed-tensors with several kinds of weights"),
    ],
)
def test_other_methods_are_refused_by_name(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFilesError) as caught:
        opened(tmp_path, gptq(layer()), config)
    assert said in caught.value.message
    assert "BF16" in caught.value.hint


# -- damaged files ---------------------------------------------------------------------------------------------------


def replaced(suffix: str, value: Any) -> dict[str, Any]:
    tensors: dict[str, Any] = gptq(layer())
    if value is None:
        del tensors[f"{MODULE}.{suffix}"]
    else:
        tensors[f"{MODULE}.{suffix}"] = value
    return tensors


@pytest.mark.parametrize(
    ("suffix", "value", "said"),
    [
        ("qzeros", None, "qzeros is missing"),
        ("scales", None, "scales is missing"),
        ("qweight", None, "no tensor is named"),
        ("qzeros", np.zeros((4, 5), np.int32), "qzeros has the shape"),
        ("scales", np.zeros((3, 48), np.float16), "scales has the shape"),
        ("scales", np.zeros((4, 48), np.int32), "scales is I32"),
        ("qweight", np.zeros((32, 48), np.float32), "qweight is F32"),
        ("qweight", np.zeros(32, np.int32), "qweight has the shape"),
        ("g_idx", np.zeros(255, np.int32), "g_idx has the shape"),
        ("g_idx", np.full(256, 4, np.int32), "names groups that don't exist"),
        ("g_idx", np.full(256, -1, np.int32), "names groups that don't exist"),
    ],
)
def test_parts_that_do_not_belong_together_are_named(tmp_path: Path, suffix: str, value: Any, said: str) -> None:
    with pytest.raises(ModelFilesError, match=said):
        opened(tmp_path, replaced(suffix, value), GPTQ)


def test_a_stated_shape_that_lies_is_refused(tmp_path: Path) -> None:
    for shape in ([48, 1 << 40], [48, -256], [48, 0]):
        tensors = compressed(layer()) | {f"{MODULE}.weight_shape": np.array(shape, dtype=np.int64)}
        with pytest.raises(ModelFilesError):
            opened(tmp_path, tensors, compressed_config())


def test_scales_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    one = layer()
    one.scales[5, 1] = np.inf
    tensor = opened(tmp_path, gptq(one), GPTQ)
    with pytest.raises(ModelFilesError, match="contains NaN or infinity"):
        tensor.coded()


def test_shards_may_split_a_weight(tmp_path: Path) -> None:
    one = layer()
    tensors = gptq(one)
    write_model(tmp_path, {}, quantization_config=GPTQ)
    (tmp_path / "model.safetensors").unlink()
    places = {name: f"{number}.safetensors" for number, name in enumerate(tensors)}
    for name, file in places.items():
        write_safetensors(tmp_path / file, {name: tensors[name]})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    np.testing.assert_array_equal(open_safetensors(tmp_path).tensors[f"{MODULE}.weight"].floats(), one.weights)
