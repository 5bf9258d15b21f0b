"""What each weight becomes by the user's wish, and how it is stored."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.engine_run import EngineRun
from support.import_cases import Case, read_case
from support.import_source import MemorySource, MemoryTensor, coded_tensor, random_coded

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer import architectures
from lmsupply_cli.importer.forms import Choice, Wish, choose_form
from lmsupply_cli.importer.layers import pack
from lmsupply_cli.importer.quantize import coding_for
from lmsupply_cli.importer.weights import Coded, Coding, Floats

Q4_0, Q4_K, Q6_K = Coding(4, 32), Coding(4, 32, corrections=True), Coding(8, 16)
FLOATS = Choice(None)


VALUES, DOWN = "model.layers.5.self_attn.v_proj.weight", "model.layers.5.mlp.down_proj.weight"


def tensor(kind: str, coding: Coding | None = None, inputs: int = 256, name: str = "w") -> MemoryTensor:
    return MemoryTensor(name, np.zeros((4, inputs), np.float32), kind, coding)


@pytest.mark.parametrize(
    ("weight", "wish", "linear", "vocabulary"),
    [
        (tensor("Q4_0", Q4_0), Wish("exact"), Choice(Q4_0, True), Choice(Q4_0, True)),
        (tensor("Q4_K", Q4_K), Wish("exact", 128), Choice(Q4_K, True), Choice(Q4_K, True)),
        (tensor("IQ2_S"), Wish("exact", 128), Choice(coding_for(8, 32)), Choice(coding_for(8, 32))),
        (tensor("F16"), Wish("exact"), FLOATS, FLOATS),
        (tensor("BF16"), Wish("int4", 128), Choice(coding_for(4, 128)), Choice(coding_for(8, 32))),
        (tensor("Q4_K", Q4_K), Wish("int4"), Choice(Q4_K, True), Choice(Q4_K, True)),
        (tensor("Q6_K", Q6_K), Wish("int4"), Choice(coding_for(4, 32)), Choice(Q6_K, True)),
        (tensor("Q6_K", Q6_K), Wish("int8"), Choice(Q6_K, True), Choice(Q6_K, True)),
        (tensor("F32"), Wish("int8", 64), Choice(coding_for(8, 64)), Choice(coding_for(8, 32))),
        (tensor("Q4_0", Q4_0), Wish("fp16"), FLOATS, FLOATS),
        (tensor("Q4_0", Q4_0), Wish("fp32"), FLOATS, FLOATS),
        (tensor("F32", inputs=96), Wish("int4", 128), Choice(coding_for(4, 32)), None),
        (tensor("F32", inputs=48), Wish("int4", 64), Choice(coding_for(4, 16)), None),
        (tensor("F32", inputs=50), Wish("int4", 64), FLOATS, FLOATS),
        (tensor("GPTQ", Coding(4, 24)), Wish("exact"), Choice(coding_for(8, 32)), None),
    ],
)
def test_forms(weight: MemoryTensor, wish: Wish, linear: Choice, vocabulary: Choice | None) -> None:
    assert choose_form(weight, wish) == linear
    if vocabulary is not None:
        assert choose_form(weight, wish, is_vocabulary=True) == vocabulary


@pytest.mark.parametrize(
    ("weight", "layers", "wish", "expected"),
    [
        (tensor("BF16", name=VALUES), 16, Wish("int4", 128), Choice(coding_for(8, 128))),
        (tensor("Q6_K", Q6_K, name=VALUES), 16, Wish("int4"), Choice(Q6_K, True)),
        (tensor("Q4_K", Q4_K, name=VALUES), 16, Wish("int4"), Choice(Q4_K, True)),
        (tensor("Q4_K", Q4_K, name=VALUES), 16, Wish("exact"), Choice(Q4_K, True)),
        (tensor("BF16", name=VALUES), 0, Wish("int4"), Choice(coding_for(4, 32))),
        (tensor("BF16", name=DOWN), 16, Wish("int4"), Choice(coding_for(4, 32))),
        (tensor("BF16", name=DOWN), 4, Wish("int4"), Choice(coding_for(8, 32))),
    ],
)
def test_sensitive_weights_keep_more_of_the_source(
    weight: MemoryTensor, layers: int, wish: Wish, expected: Choice
) -> None:
    assert choose_form(weight, wish, layers) == expected


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (Choice(Q4_K, True), "4 bits, block 32, exact with corrections"),
        (Choice(Q6_K, True), "8 bits, block 16, exact"),
        (Choice(coding_for(4, 128)), "4 bits, block 128, quantized"),
    ],
)
def test_words(choice: Choice, words: str) -> None:
    assert choice.words("float32") == words


@pytest.mark.parametrize(("float_type", "words"), [("float32", "fp32"), ("float16", "fp16")])
def test_words_of_floats(float_type: str, words: str) -> None:
    assert FLOATS.words(float_type) == words


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_packing_puts_the_first_code_lowest_and_ends_rows_at_bytes(bits: int, count: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << bits, (3, count), dtype=np.uint8)
    packed = pack(codes, bits)
    per_byte = 8 // bits
    assert packed.shape == (3, -(-count // per_byte))
    mask = (1 << bits) - 1
    for row in range(3):
        for at in range(count):
            assert packed[row, at // per_byte] >> (at % per_byte * bits) & mask == codes[row, at]


def changed(case: Case, **tensors: MemoryTensor | None) -> MemorySource:
    source = case.source
    kept = {**source.tensors, **{name.replace("__", "."): value for name, value in tensors.items()}}
    return MemorySource(source.config, {name: value for name, value in kept.items() if value is not None})


def test_a_tensor_that_is_missing() -> None:
    source = changed(read_case("llama"), model__layers__1__mlp__up_proj__weight=None)
    with pytest.raises(ModelFilesError, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        architectures.estimate(source, Wish("fp32"))


def test_a_tensor_of_another_shape() -> None:
    name = "model.norm.weight"
    source = changed(read_case("llama"), model__norm__weight=MemoryTensor(name, np.zeros(95, np.float32)))
    with pytest.raises(ModelFilesError, match=r"model\.norm\.weight is 95; the config says 96"):
        architectures.estimate(source, Wish("fp32"))


def test_a_tensor_without_a_place() -> None:
    name = "model.layers.0.self_attn.sinks"
    source = changed(read_case("llama"), model__layers__0__self_attn__sinks=MemoryTensor(name, np.zeros(6, np.float32)))
    with pytest.raises(ModelFilesError, match="sinks is not part of the llama architecture"):
        architectures.estimate(source, Wish("fp32"))


def test_tables_that_old_files_carry_are_left_out() -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    frequencies = MemoryTensor(name, np.zeros(8, np.float32))
    source = MemorySource(read_case("llama").config, {**read_case("llama").source.tensors, name: frequencies})
    assert all(form.name != name for form in architectures.estimate(source, Wish("fp32")).forms)


def test_a_model_without_a_head_is_tied(tmp_path: Path) -> None:
    case = read_case("llama")
    source = changed(case, lm_head__weight=None)
    architectures.build(source, tmp_path, Wish("fp32"), source.facts, lambda _: None)
    tied = changed(
        case, lm_head__weight=MemoryTensor("lm_head.weight", source.tensors["model.embed_tokens.weight"].values)
    )
    (tmp_path / "tied").mkdir()
    architectures.build(tied, tmp_path / "tied", Wish("fp32"), tied.facts, lambda _: None)
    logits = [EngineRun(folder).feed(case.ids) for folder in (tmp_path, tmp_path / "tied")]
    assert np.abs(logits[0] - logits[1]).max() < 1e-5


@pytest.mark.parametrize("config", [{"model_type": "rwkv"}, {}, {"model_type": "\x1b[31m"}])
def test_an_architecture_that_is_not_supported(config: dict[str, str]) -> None:
    case = read_case("llama")
    others = {key: value for key, value in case.config.items() if key != "model_type"}
    reason = architectures.supported({**others, **config})
    assert reason
    assert "\x1b" not in reason
    with pytest.raises(ModelFilesError) as caught:
        architectures.estimate(MemorySource({**others, **config}, case.source.tensors), Wish("fp32"))
    assert caught.value.message == reason
    assert "Llama" in caught.value.hint


def test_an_activation_that_is_not_supported() -> None:
    case = read_case("llama")
    with pytest.raises(ModelFilesError, match="xielu"):
        architectures.estimate(MemorySource({**case.config, "hidden_act": "xielu"}, case.source.tensors), Wish("fp32"))


@pytest.mark.parametrize("precision", ["exact", "int4", "int8", "fp16", "fp32"])
@pytest.mark.parametrize("name", ["llama", "llama_tied"])
def test_the_estimate_is_what_is_written(name: str, precision: str, tmp_path: Path) -> None:
    source = mixed(read_case(name))
    plan = architectures.estimate(source, Wish(precision))
    read: list[int] = []
    forms = architectures.build(source, tmp_path, Wish(precision), source.facts, read.append)
    written = sum((tmp_path / each).stat().st_size for each in ("model.onnx", "model.onnx.data"))
    assert plan.size_bytes == written
    assert plan.forms == forms
    assert {form.name for form in forms} == set(source.tensors)
    assert sum(read) == sum(each.size_bytes for each in source.tensors.values())


def mixed(case: Case) -> MemorySource:
    """As in files of Q4_K_M: values and half of the MLP have more bits, so that not all can be packed."""
    rng, tensors = np.random.default_rng(0), dict(case.source.tensors)
    for name, each in case.source.tensors.items():
        if len(each.shape) == 2:
            coding = Q6_K if "v_proj" in name or "up_proj" in name else Q4_K
            tensors[name] = coded_tensor(name, random_coded(rng, each.shape, coding, 0.6), coding)
    return MemorySource(case.config, tensors)


def test_weights_of_different_forms_are_not_packed_into_one(tmp_path: Path) -> None:
    case = read_case("llama")
    source = mixed(case)
    for precision in ("fp32", "exact"):
        (tmp_path / precision).mkdir()
        forms = architectures.build(source, tmp_path / precision, Wish(precision), source.facts, lambda _: None)
    floats, codes = (EngineRun(tmp_path / each, in_floats=True).feed(case.ids) for each in ("fp32", "exact"))
    assert np.abs(codes - floats).max() < 1e-4 * np.abs(floats).max()
    found = {form.name: form.form for form in forms}
    assert found["model.layers.0.self_attn.v_proj.weight"] == "8 bits, block 16, exact"
    assert found["model.layers.0.self_attn.q_proj.weight"] == "4 bits, block 32, exact with corrections"


class Endless(MemoryTensor):
    """A weight that makes its rows when they are read."""

    def __init__(self, name: str, shape: tuple[int, int], coding: Coding | None = None) -> None:
        super().__init__(name, np.broadcast_to(np.float32(0), shape), "F32", coding)

    def floats(self, start: int = 0, stop: int | None = None) -> Floats:
        return np.random.default_rng(start).random((len(self.values[start:stop]), self.shape[1]), np.float32)

    def coded(self, start: int = 0, stop: int | None = None) -> Coded:
        assert self.coding is not None
        return random_coded(np.random.default_rng(start), (len(self.values[start:stop]), self.shape[1]), self.coding)


@pytest.mark.parametrize(("precision", "coding"), [("int8", None), ("fp16", None), ("exact", Q4_K)])
def test_memory_does_not_grow_with_the_weights(precision: str, coding: Coding | None, tmp_path: Path) -> None:
    """An embedding and a head of 154 MB each as floats."""
    case = read_case("llama")
    config = {**case.config, "vocab_size": 400_000}
    names = ("model.embed_tokens.weight", "lm_head.weight")
    large = {name: Endless(name, (config["vocab_size"], 96), coding) for name in names}
    source = MemorySource(config, {**case.source.tensors, **large})
    tracemalloc.start()
    try:
        architectures.build(source, tmp_path, Wish(precision), source.facts, lambda _: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150_000_000


@pytest.mark.parametrize(
    "name", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"]
)
def test_values_beyond_fp16_are_named(name: str, tmp_path: Path) -> None:
    source = read_case("llama").source
    largest = source.tensors[name].values.copy()
    largest.reshape(-1)[3] = -65519
    source = MemorySource(source.config, {**source.tensors, name: MemoryTensor(name, largest)})
    architectures.build(source, tmp_path, Wish("fp16"), source.facts, lambda _: None)
    largest.reshape(-1)[3] = -65520
    with pytest.raises(ModelFilesError, match=f"the tensor {name} has values beyond fp16") as caught:
        architectures.build(source, tmp_path, Wish("fp16"), source.facts, lambda _: None)
    assert caught.value.hint == "use fp32"
    architectures.build(source, tmp_path, Wish("fp32"), source.facts, lambda _: None)
