"""What only some families have: windows, LongRoPE, the norms and prefixes of Gemma, experts."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from support.engine_run import EngineRun
from support.import_cases import Case, read_case
from support.import_source import MemorySource, MemoryTensor, coded_tensor, random_coded

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer import architectures
from lmsupply_cli.importer.forms import Form, Wish
from lmsupply_cli.importer.model_config import parse_model_config
from lmsupply_cli.importer.rope import make_rotary
from lmsupply_cli.importer.weights import Coding

NEAR = 1e-4  # of logits


def build(source: MemorySource, folder: Path, precision: str = "fp32", block_size: int = 32) -> dict[str, Form]:
    folder.mkdir(exist_ok=True)
    forms = architectures.build(source, folder, Wish(precision, block_size), source.facts, lambda _: None)
    return {form.name: form for form in forms}


def in_parts(run: EngineRun, ids: Sequence[int], sizes: Sequence[int]) -> np.ndarray[Any, Any]:
    """Chunks of `sizes`, then one by one."""
    parts, at = [], 0
    for size in [*sizes, *[1] * (len(ids) - sum(sizes))]:
        parts.append(run.feed(ids[at : at + size]))
        at += size
    return np.concatenate(parts)


# ---------------------------------------------------------------------- windows


@pytest.mark.parametrize("name", ["phi3", "gemma2", "gemma3"])
@pytest.mark.parametrize("sizes", [(), (6,), (7,), (8,), (3, 6, 9), (20, 2)])
def test_a_window_moves_on_however_the_text_arrives(name: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    case = read_case(name)
    assert case.config["sliding_window"] == 7
    build(case.source, tmp_path)
    logits = in_parts(EngineRun(tmp_path), case.ids, sizes)
    assert np.abs(logits - case.logits).max() < NEAR


def test_a_window_changes_the_logits_of_these_models(tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    case = read_case("gemma3")
    build(replace_config(case.source, sliding_window=64), tmp_path)
    off = np.abs(EngineRun(tmp_path).feed(case.ids) - case.logits).max(axis=1)
    assert off[:7].max() < NEAR
    assert off[7:].min() > 0.01


# ---------------------------------------------------------------------- LongRoPE


BORDER = 16  # of phi3_longrope; phi3_longrope_short is the same model with one that its text never reaches


@pytest.mark.parametrize("sizes", [(12,), (16,), (17,), (20,), (5, 11, 3), ()])
def test_longrope_beyond_the_border_has_one_set_for_the_whole_text(sizes: tuple[int, ...], tmp_path: Path) -> None:
    """transformers computes a text from its begin when it crosses the border; a session that can cross it need not."""
    case = read_case("phi3_longrope")
    build(case.source, tmp_path)
    logits = in_parts(EngineRun(tmp_path, capacity=BORDER + 8), case.ids, sizes)
    assert np.abs(logits - case.logits).max() < NEAR


@pytest.mark.parametrize("sizes", [(16,), (9, 4), ()])
def test_longrope_in_a_session_within_the_border_has_the_short_set(sizes: tuple[int, ...], tmp_path: Path) -> None:
    short = read_case("phi3_longrope_short")
    build(read_case("phi3_longrope").source, tmp_path)
    logits = in_parts(EngineRun(tmp_path, capacity=BORDER), short.ids[:BORDER], sizes)
    assert np.abs(logits - short.logits[:BORDER]).max() < NEAR


def test_longrope_sets_give_other_logits() -> None:
    short, long = read_case("phi3_longrope_short"), read_case("phi3_longrope")
    assert short.ids == long.ids
    assert np.abs(short.logits - long.logits)[4:].max(axis=1).min() > 0.1


def test_longrope_without_a_shared_buffer_goes_by_the_length_of_the_text(tmp_path: Path) -> None:
    short, long = read_case("phi3_longrope_short"), read_case("phi3_longrope")
    build(long.source, tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))

    def logits(count: int) -> np.ndarray[Any, Any]:
        ids = np.array([long.ids[:count]], np.int64)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), **empty(session, 1)}
        return np.asarray(session.run(["logits"], given)[0][0])

    assert np.abs(logits(BORDER) - short.logits[:BORDER]).max() < NEAR
    assert np.abs(logits(BORDER + 1) - long.logits[: BORDER + 1]).max() < NEAR


@pytest.mark.parametrize("name", ["phi3_longrope", "phi3_longrope_short"])
def test_longrope_of_a_padded_batch(name: str, tmp_path: Path) -> None:
    """Shorter prompts are padded on the right, and go on behind their own last token."""
    case = read_case(name)
    build(case.source, tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    lengths, steps = (18, 20), 3
    mask = np.array([[1] * length + [0] * (20 - length) for length in lengths], np.int64)
    ids = np.array([case.ids[:20]] * 2, np.int64) * mask
    names = ["logits", *(output.name for output in session.get_outputs() if output.name != "logits")]
    logits, *cache = session.run(names, {"input_ids": ids, "attention_mask": mask, **empty(session, 2)})
    rows = [[logits[row, :length]] for row, length in enumerate(lengths)]
    for step in range(steps):
        mask = np.concatenate([mask, np.ones((2, 1), np.int64)], axis=1)
        ids = np.array([[case.ids[length + step]] for length in lengths], np.int64)
        past = {name.replace("present", "past_key_values"): part for name, part in zip(names[1:], cache, strict=True)}
        logits, *cache = session.run(names, {"input_ids": ids, "attention_mask": mask, **past})
        for row in (0, 1):
            rows[row].append(logits[row])
    for row, length in zip(rows, lengths, strict=True):
        assert np.abs(np.concatenate(row) - case.logits[: length + steps]).max() < NEAR


def empty(session: Any, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    past = [each for each in session.get_inputs() if each.name.startswith("past")]
    return {each.name: np.zeros((batch, each.shape[1], 0, each.shape[3]), np.float32) for each in past}


def test_longrope_beyond_the_offered_context_takes_no_room() -> None:
    """A context that a file claims is not offered, nor stored."""
    claimed = {"max_position_embeddings": 1 << 24, "original_max_position_embeddings": (1 << 24) - 1}
    plan = architectures.estimate(replace_config(read_case("phi3_longrope_short").source, **claimed), Wish("fp32"))
    assert plan.size_bytes < 300_000 * 8 * 4 * 2


def test_longrope_in_a_family_that_has_none_is_refused(tmp_path: Path) -> None:
    case = read_case("llama")
    scaling = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    config = {"rope_parameters": None, "rope_scaling": scaling, "original_max_position_embeddings": 16}
    with pytest.raises(ModelFilesError, match="LongRoPE"):
        build(replace_config(case.source, **config), tmp_path)


# ---------------------------------------------------------------------- Gemma


def replace_config(source: MemorySource, **changes: Any) -> MemorySource:
    return replace(source, config={**source.config, **changes})


@pytest.mark.parametrize("name", ["gemma2", "gemma3"])
def test_norms_of_gguf_files_are_taken_as_they_are(name: str, tmp_path: Path) -> None:
    case = read_case(name)
    source = case.source
    for tensor in source.tensors.values():
        if "norm" in tensor.name:
            tensor.values += 1
    build(replace(source, folded_norms=True), tmp_path)
    assert np.abs(EngineRun(tmp_path).feed(case.ids) - case.logits).max() < NEAR


def multimodal(case: Case, prefix: str) -> MemorySource:
    text = {key: value for key, value in case.config.items() if key != "architectures"}
    tensors = {name.replace("model.", prefix, 1): tensor for name, tensor in case.source.tensors.items()}
    vision = "model." if prefix.startswith("model.") else ""
    for name in ("vision_tower.vision_model.post_layernorm.weight", "multi_modal_projector.mm_soft_emb_norm.weight"):
        tensors[vision + name] = MemoryTensor(vision + name, np.ones(8, np.float32))
    return MemorySource({"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}}, tensors)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_language_model_of_a_multimodal_gemma(prefix: str, tmp_path: Path) -> None:
    case = read_case("gemma3")
    source = multimodal(case, prefix)
    build(source, tmp_path)
    assert np.abs(EngineRun(tmp_path).feed(case.ids) - case.logits).max() < NEAR
    (note,) = architectures.estimate(source, Wish("fp32")).notes
    assert "images" in note
    assert not architectures.estimate(case.source, Wish("fp32")).notes


def test_two_language_models_in_one_file_are_refused(tmp_path: Path) -> None:
    case = read_case("gemma3")
    source = multimodal(case, "language_model.model.")
    source = replace(source, tensors={**source.tensors, **case.source.tensors})
    with pytest.raises(ModelFilesError, match="two language models"):
        build(source, tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_bidirectional_attention": True}, "embedding model"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ({"query_pre_attn_scalar": -24.0}, "query_pre_attn_scalar"),
        ({"attn_logit_softcapping": -1}, "attn_logit_softcapping"),
        ({"final_logit_softcapping": 0}, "final_logit_softcapping"),
    ],
)
def test_values_of_gemma_that_make_no_sense_are_named(changes: Mapping[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=named):
        build(replace_config(read_case("gemma2").source, **changes), tmp_path)


def test_what_a_config_leaves_out_is_as_in_transformers() -> None:
    """The whole text_config of gemma-3-4b-it."""
    stated = {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    }  # fmt: skip
    config = parse_model_config({"model_type": "gemma3", "text_config": stated, "vision_config": {}})
    assert (config.heads, config.kv_heads, config.head_dim, config.vocab_size) == (8, 4, 256, 262_208)
    assert (config.context_length, config.tied, config.activation) == (131_072, True, "gelu_pytorch_tanh")
    assert [layer for layer, slides in enumerate(config.sliding_layers) if not slides] == [5, 11, 17, 23, 29]
    assert (config.rope.type, config.rope.theta, config.rope.values["factor"]) == ("linear", 1_000_000.0, 8.0)
    assert config.local_rope is not None
    assert (config.local_rope.type, config.local_rope.theta) == ("default", 10_000.0)
    old = parse_model_config({"model_type": "gemma2", "num_hidden_layers": 4})
    assert old.sliding_layers == (True, False, True, False)


def test_a_null_in_a_config_is_none_and_not_the_default() -> None:
    config = parse_model_config({"model_type": "mistral", "sliding_window": None})
    assert config.sliding_window == 0
    assert parse_model_config({"model_type": "mistral"}).sliding_window == 4096


# ---------------------------------------------------------------------- codes


@pytest.mark.parametrize("coding", [Coding(4, 32), Coding(4, 32, corrections=True), Coding(8, 16)], ids=str)
@pytest.mark.parametrize("name", ["phi3", "phi3_partial", "gemma2", "gemma3"])
def test_codes_are_carried_over_exactly(name: str, coding: Coding, tmp_path: Path) -> None:
    case, rng = read_case(name), np.random.default_rng(0)
    tensors = {
        key: coded_tensor(key, random_coded(rng, tensor.shape, coding, 0.6), coding)
        if tensor.values.ndim == 2
        else tensor
        for key, tensor in case.source.tensors.items()
    }
    source = replace(case.source, tensors=tensors)
    for precision in ("fp32", "exact"):
        build(source, tmp_path / precision, precision)
    floats, codes = (EngineRun(tmp_path / each, in_floats=True).feed(case.ids) for each in ("fp32", "exact"))
    assert np.abs(codes - floats).max() < NEAR * np.abs(floats).max()


# ---------------------------------------------------------------------- experts

GATE, UP, DOWN = (f"model.layers.0.mlp.experts.{part}_proj.weight" for part in ("gate", "up", "down"))
Q4, Q4_16, Q4_ZERO, Q8_16 = Coding(4, 32), Coding(4, 16), Coding(4, 32, True), Coding(8, 16)
Q4_1 = Coding(4, 32, corrections=True)


def one_layer(name: str = "qwen3_moe") -> MemorySource:
    """With one router, whose input is exact: errors of the experts don't choose other ones."""
    source = read_case(name).source
    tensors = {key: tensor for key, tensor in source.tensors.items() if ".layers.1." not in key}
    return MemorySource({**source.config, "num_hidden_layers": 1}, tensors)


def with_codes(source: MemorySource, codings: Mapping[str, Coding], kind: str = "Q4_0") -> MemorySource:
    rng, tensors = np.random.default_rng(0), dict(source.tensors)
    for name, coding in codings.items():
        experts, rows, inputs = tensors[name].shape
        coded = random_coded(rng, (experts * rows, inputs), coding, 0.6)
        values = coded.floats(coding).reshape(experts, rows, inputs)
        tensors[name] = MemoryTensor(name, values, kind, coding, coded)
    return replace(source, tensors=tensors)


def stored_experts(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    """What QMoE computes with: gate_up [experts, 2 · size, hidden], rows interleaved; down; and the bits."""
    model = onnx.load(folder / "model.onnx")
    (node,) = [node for node in model.graph.node if node.op_type == "QMoE"]
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    bits, block = attributes["expert_weight_bits"], attributes["block_size"]
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}

    def dequantized(codes: str, scales: str, zeros: str) -> np.ndarray[Any, Any]:
        factors = arrays[scales][..., None]
        blocks = unpacked(arrays[codes], bits).reshape(*factors.shape[:-1], block).astype(np.float32)
        zero = unpacked(arrays[zeros], bits)[..., : factors.shape[2], None] if zeros else 1 << (bits - 1)
        return ((blocks - zero) * factors).reshape(*factors.shape[:2], -1)

    names = [*node.input, *[""] * (15 - len(node.input))]
    return dequantized(names[2], names[3], names[11]), dequantized(names[5], names[6], names[12]), bits


def unpacked(packed: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


@pytest.mark.parametrize(
    ("codings", "bits"),
    [
        ((Q4, Q4, Q4), 4),
        ((Q4_ZERO, Q4, Q4), 4),  # one weight of both, so that gate alone can't have zero points
        ((Q4, Q4, Q4_16), 4),  # one block size for all
        ((Q4_16, Q4, Q4_ZERO), 4),
        ((Q4, Q4_ZERO, Q8_16), 8),  # as Q4_K_M has down in Q6_K
        ((Q8_16, Q8_16, Q8_16), 8),
    ],
)
def test_codes_of_experts_are_carried_over_exactly(codings: tuple[Coding, ...], bits: int, tmp_path: Path) -> None:
    source = with_codes(one_layer(), dict(zip((GATE, UP, DOWN), codings, strict=True)))
    forms = build(source, tmp_path / "exact", "exact")
    assert all(forms[name].form.endswith(", exact") for name in (GATE, UP, DOWN))
    gate_up, down, found = stored_experts(tmp_path / "exact")
    assert found == bits
    assert np.array_equal(gate_up[:, 0::2], source.tensors[GATE].values)
    assert np.array_equal(gate_up[:, 1::2], source.tensors[UP].values)
    assert np.array_equal(down, source.tensors[DOWN].values)
    build(source, tmp_path / "fp32")
    ids = read_case("qwen3_moe").ids
    floats, codes = (EngineRun(tmp_path / each, in_floats=True).feed(ids) for each in ("fp32", "exact"))
    near = NEAR if bits == 4 else 0.05  # in 8 bits QMoE always rounds its activations to 8 bits
    assert np.abs(codes - floats).max() < near * np.abs(floats).max()


def test_corrections_of_experts_become_8_bits_and_it_is_said(tmp_path: Path) -> None:
    source = with_codes(one_layer(), {GATE: Q4_1, UP: Q4_1, DOWN: Q8_16}, "Q4_K")
    forms = build(source, tmp_path, "exact")
    assert [forms[name].form for name in (GATE, UP)] == ["8 bits, block 16, quantized"] * 2
    assert forms[DOWN].form == "8 bits, block 16, exact"
    gate_up, down, _ = stored_experts(tmp_path)
    steps = np.abs(gate_up[:, 0::2] - source.tensors[GATE].values).max() / np.abs(source.tensors[GATE].values).max()
    assert 0 < steps < 1 / 127
    assert np.array_equal(down, source.tensors[DOWN].values)


def test_floats_of_experts_stay_floats_unless_asked(tmp_path: Path) -> None:
    source = one_layer()
    forms = build(source, tmp_path, "exact")
    assert {forms[name].form for name in (GATE, UP, DOWN)} == {"fp32"}
    plan = architectures.estimate(source, Wish("int4"))
    assert {form.form for form in plan.forms if "experts" in form.name} == {"4 bits, block 32, quantized"}
    assert {form.form for form in plan.forms if form.name.endswith("mlp.gate.weight")} == {"fp32"}


# errors of codes as in test_architectures; one layer has less of them
@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.005), ("int8", 0.05), ("int4", 0.35)])
def test_smaller_experts_are_near(name: str, precision: str, most: float, tmp_path: Path) -> None:
    source, ids = one_layer(name), read_case(name).ids
    build(source, tmp_path / "fp32")
    build(source, tmp_path / precision, precision)
    floats, small = (EngineRun(tmp_path / each).feed(ids) for each in ("fp32", precision))
    assert (small - floats).std() < most * floats.std()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_experts_per_tok": 7}, "7 of 6 experts"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"num_local_experts": 0}, "num_local_experts"),
        ({"num_local_experts": 5, "num_experts": 5}, "config says 5"),
        ({"decoder_sparse_step": 0}, "decoder_sparse_step"),
    ],
)
def test_experts_that_do_not_fit_the_config_are_refused(changes: Mapping[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=named):
        build(replace_config(one_layer(), **changes), tmp_path)


def test_weights_of_experts_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmsupply_cli.importer import weights

    monkeypatch.setattr(weights, "_CHUNK_BYTES", 4 * 96 * 10)  # ten rows of 96 inputs
    source = with_codes(one_layer(), {GATE: Q4_1, UP: Q4_1, DOWN: Q8_16})
    done: list[int] = []
    architectures.build(source, tmp_path, Wish("exact"), source.facts, done.append)
    assert source.tensors[GATE].largest_read <= 10
    assert sum(done) == sum(tensor.size_bytes for tensor in source.tensors.values())


# ---------------------------------------------------------------------- rotary tables


def test_rotary_tables_are_written_a_few_rows_at_a_time(tmp_path: Path) -> None:
    source = replace_config(read_case("phi3_longrope").source, max_position_embeddings=9000)
    expected = make_rotary((config := parse_model_config(source.config)).rope, config)
    assert expected.long is not None
    build(source, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    tables = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer if "rotary." in each.name}
    short, long = expected.tables(0, expected.border), expected.long.tables(0, 9000)
    for part, name in enumerate(("rotary.cos", "rotary.sin")):
        assert np.array_equal(tables[name], np.concatenate([short[part], long[part]]))


def test_rotary_tables_take_little_memory(tmp_path: Path) -> None:
    source = replace_config(read_case("llama").source, max_position_embeddings=100_000)
    dim = parse_model_config(source.config).rope.dim
    tracemalloc.start()
    build(source, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000 * dim * 4 / 2  # half of what both tables have


def test_experts_beyond_fp16_are_named(tmp_path: Path) -> None:
    source = one_layer()
    values = source.tensors[UP].values.copy()
    values[2, 1, 1] = 1e5
    source = replace(source, tensors={**source.tensors, UP: MemoryTensor(UP, values)})
    with pytest.raises(ModelFilesError, match=f"the tensor {UP} has values beyond fp16"):
        build(source, tmp_path, "fp16")
