"""Safetensors: what is read, row by row, and what is refused before anything is allocated."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.safetensors_files import bf16, write_model, write_raw, write_safetensors

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.safetensors_file import INDEX, SINGLE, open_folder, read_file
from lmsupply_cli.importer.safetensors_source import open_safetensors

RANDOM = np.random.default_rng(7)
WEIGHT = RANDOM.standard_normal((6, 4)).astype(np.float32)


def entry(shape: list[int], begin: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


# -- values ----------------------------------------------------------------------------------------------------------


def test_floats_of_every_kind_are_read_by_rows(tmp_path: Path) -> None:
    half = WEIGHT.astype(np.float16)
    write_safetensors(tmp_path / SINGLE, {"a": WEIGHT, "b": half, "c": bf16(WEIGHT), "d": WEIGHT.astype(np.float64)})
    tensors = open_folder(tmp_path)
    assert [tensors[name].kind for name in "abcd"] == ["F32", "F16", "BF16", "F64"]
    np.testing.assert_array_equal(tensors["a"].floats(2, 5), WEIGHT[2:5])
    np.testing.assert_array_equal(tensors["b"].floats(), half.astype(np.float32))
    np.testing.assert_array_equal(tensors["d"].floats(), WEIGHT)
    cut = (WEIGHT.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(tensors["c"].floats(1, 3), cut[1:3])
    assert all(tensors[name].floats().dtype == np.float32 for name in "abcd")


def test_eight_bit_floats_have_the_values_of_their_definition(tmp_path: Path) -> None:
    codes = np.array([0x00, 0x01, 0x08, 0x38, 0x7E, 0xB8], dtype=np.uint8)
    wide = np.array([0x00, 0x01, 0x3C, 0x7B, 0xBC], dtype=np.uint8)
    write_safetensors(tmp_path / SINGLE, {"a": ("F8_E4M3", codes), "b": ("F8_E5M2", wide)})
    tensors = open_folder(tmp_path)
    np.testing.assert_array_equal(tensors["a"].floats(), [[0, 2**-9, 2**-6, 1, 448, -1]])
    np.testing.assert_array_equal(tensors["b"].floats(), [[0, 2**-16, 1, 57344, -1]])


def test_vectors_and_stacks_have_a_two_dimensional_view(tmp_path: Path) -> None:
    stack = RANDOM.standard_normal((3, 2, 4)).astype(np.float32)
    write_safetensors(tmp_path / SINGLE, {"v": WEIGHT[0], "s": stack})
    tensors = open_folder(tmp_path)
    np.testing.assert_array_equal(tensors["v"].floats(), WEIGHT[:1])
    np.testing.assert_array_equal(tensors["s"].floats(3, 6), stack.reshape(6, 4)[3:])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    values = WEIGHT.copy()
    values[4, 1] = bad
    write_safetensors(tmp_path / SINGLE, {"w": values})
    tensor = open_folder(tmp_path)["w"]
    np.testing.assert_array_equal(tensor.floats(0, 4), WEIGHT[:4])
    with pytest.raises(ModelFilesError, match="w contains NaN or infinity"):
        tensor.floats(4, 5)


def test_kinds_without_a_form_in_numpy_are_named(tmp_path: Path) -> None:
    write_raw(tmp_path / SINGLE, json.dumps({"w": entry([8], 0, 4, "F4")}).encode(), bytes(4))
    with pytest.raises(ModelFilesError, match="w is F4"):
        open_folder(tmp_path)["w"].floats()


# -- damaged and hostile files ---------------------------------------------------------------------------------------

DUPLICATE = b'{"a":%b,"a":%b}' % ((json.dumps(entry([2], 0, 8)).encode(),) * 2)
HOSTILE = {
    "offsets outside": (json.dumps({"a": entry([4], 0, 16)}).encode(), bytes(8)),
    "offsets overlap": (json.dumps({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}).encode(), bytes(12)),
    "a gap": (json.dumps({"a": entry([2], 0, 8), "b": entry([2], 12, 20)}).encode(), bytes(20)),
    "bytes at the end": (json.dumps({"a": entry([2], 0, 8)}).encode(), bytes(9)),
    "a shape that lies": (json.dumps({"a": entry([3], 0, 8)}).encode(), bytes(8)),
    "a shape that overflows": (json.dumps({"a": entry([1 << 62, 4], 0, 0)}).encode(), b""),
    "a negative size": (json.dumps({"a": entry([-2], 0, 8)}).encode(), bytes(8)),
    "end before begin": (json.dumps({"a": entry([2], 8, 0)}).encode(), bytes(8)),
    "an unknown kind": (json.dumps({"a": entry([2], 0, 8, "F99")}).encode(), bytes(8)),
    "a name twice": (DUPLICATE, bytes(8)),
    "deep nesting": (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", b""),
    "a list": (b"[1]", b""),
    "no JSON": (b'{"a"', b""),
    "no UTF-8": (b'{"\xff":1}', b""),
    "metadata that is no text": (b'{"__metadata__":{"a":{"b":1}}}', b""),
}


@pytest.mark.parametrize(("header", "data"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_refused_in_one_line(tmp_path: Path, header: bytes, data: bytes) -> None:
    write_raw(tmp_path / SINGLE, header, data)
    with pytest.raises(ModelFilesError, match=r"model\.safetensors is not a valid safetensors file") as caught:
        open_folder(tmp_path)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 1000
    assert caught.value.hint


@pytest.mark.parametrize("claimed", [1 << 63, (1 << 64) - 1, 90_000_000])
def test_a_header_length_that_lies_allocates_nothing(tmp_path: Path, claimed: int) -> None:
    write_raw(tmp_path / SINGLE, b"{}", b"", header_bytes=claimed)
    with pytest.raises(ModelFilesError, match="not a valid safetensors file"):
        open_folder(tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 400), value=st.integers(0, 255), cut=st.integers(0, 40))
def test_a_damaged_file_is_read_or_refused_but_nothing_else(tmp_path: Path, place: int, value: int, cut: int) -> None:
    path = tmp_path / SINGLE
    write_safetensors(path, {"a": WEIGHT, "b": bf16(WEIGHT)})
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content[: len(content) - cut])
    with contextlib.suppress(ModelFilesError):
        for tensor in read_file(path):
            assert tensor.offset + tensor.size_bytes <= len(content) - cut
            tensor.floats()


def test_a_file_that_shrinks_after_it_was_opened_is_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / SINGLE, {"w": WEIGHT})
    tensor = open_folder(tmp_path)["w"]
    (tmp_path / SINGLE).write_bytes(b"")
    with pytest.raises(ModelFilesError, match="safetensors changed while it was read"):
        tensor.floats()


def test_a_file_that_is_saved_over_after_it_was_opened_is_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / SINGLE, {"w": WEIGHT})
    tensor = open_folder(tmp_path)["w"]
    write_safetensors(tmp_path / SINGLE, {"w": WEIGHT + 1})
    os.utime(tmp_path / SINGLE, ns=(0, tensor.stamp[1] + 1))
    for read in (tensor.floats, tensor.array, lambda: tensor.columns(0, 2)):
        with pytest.raises(ModelFilesError, match="safetensors changed while it was read"):
            read()


def test_rows_and_columns_are_read_alone(tmp_path: Path) -> None:
    write_safetensors(tmp_path / SINGLE, {"other": WEIGHT, "w": WEIGHT, "none": WEIGHT[:0], "one": np.float32(3)})
    tensors = open_folder(tmp_path)
    np.testing.assert_array_equal(tensors["w"].columns(1, 3), WEIGHT[:, 1:3])
    np.testing.assert_array_equal(tensors["w"].float_columns(3, 4), WEIGHT[:, 3:].T)
    np.testing.assert_array_equal(tensors["w"].rows(5), WEIGHT[5:])
    assert tensors["w"].rows(4, 2).shape == (0, 4)
    assert tensors["none"].array().shape == (0, 4)
    assert tensors["one"].array() == 3


# -- several files ---------------------------------------------------------------------------------------------------


def write_shards(folder: Path, places: dict[str, str]) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"a": WEIGHT})
    write_safetensors(tmp_path / "model-00002-of-00002.safetensors", {"b": -WEIGHT, "a": WEIGHT * 0})
    write_shards(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    tensors = open_folder(tmp_path)
    np.testing.assert_array_equal(tensors["a"].floats(), WEIGHT)
    np.testing.assert_array_equal(tensors["b"].floats(), -WEIGHT)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"a": WEIGHT})
    write_shards(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    with pytest.raises(ModelFilesError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_folder(tmp_path)


def test_a_shard_without_a_promised_tensor_is_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one.safetensors", {"a": WEIGHT})
    write_shards(tmp_path, {"a": "one.safetensors", "b": "one.safetensors"})
    with pytest.raises(ModelFilesError, match=r"one\.safetensors has no tensor b"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a\\x.safetensors", "C:x.safetensors", "x.bin", 3]
)
def test_an_index_names_only_safetensors_files_beside_it(tmp_path: Path, name: Any) -> None:
    write_shards(tmp_path, {"a": name})
    with pytest.raises(ModelFilesError, match="names a file that is not a safetensors file beside it"):
        open_folder(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{"])
def test_a_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(ModelFilesError, match=INDEX):
        open_folder(tmp_path)


def test_pickles_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelFilesError, match=r"pytorch_model\.bin, a pickle, which can run code"):
        open_folder(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"no model\.safetensors and no"):
        open_folder(tmp_path)


# -- the source ------------------------------------------------------------------------------------------------------


def test_names_are_those_of_transformers_without_buffers(tmp_path: Path) -> None:
    stored = {"layers.0.mlp.up_proj.weight": WEIGHT, "norm.weight": WEIGHT[0], "embed_tokens.weight": WEIGHT}
    buffers = {"layers.0.self_attn.rotary_emb.inv_freq": WEIGHT[0], "steps": np.zeros(1, dtype=np.int64)}
    source = open_safetensors(write_model(tmp_path / "tiny", stored | buffers))
    assert sorted(source.tensors) == sorted(f"model.{name}" for name in stored)
    tensor = source.tensors["model.layers.0.mlp.up_proj.weight"]
    assert (tensor.name, tensor.shape, tensor.kind, tensor.size_bytes) == (
        "model.layers.0.mlp.up_proj.weight",
        (6, 4),
        "F32",
        96,
    )
    assert tensor.coding is None
    np.testing.assert_array_equal(tensor.floats(1, 2), WEIGHT[1:2])
    with pytest.raises(ModelFilesError, match="no integer form"):
        tensor.coded()
    assert (source.format, source.name, source.folded_norms) == ("safetensors", "tiny", False)


@pytest.mark.parametrize(
    ("stated", "stored", "tied"),
    [(None, True, False), (None, False, True), (False, True, False), (True, True, True), (True, False, True)],
)
def test_a_tied_head_is_none_of_its_own(tmp_path: Path, stated: bool | None, stored: bool, tied: bool) -> None:
    tensors = {"model.embed_tokens.weight": WEIGHT} | ({"lm_head.weight": WEIGHT} if stored else {})
    config = {} if stated is None else {"tie_word_embeddings": stated}
    source = open_safetensors(write_model(tmp_path, tensors, **config))
    assert source.config["tie_word_embeddings"] is tied
    assert ("lm_head.weight" in source.tensors) is not tied


def test_experts_become_one_tensor(tmp_path: Path) -> None:
    weights = RANDOM.standard_normal((12, 6, 4)).astype(np.float32)
    prefix = "model.layers.0.mlp.experts"
    source = open_safetensors(write_model(tmp_path, {f"{prefix}.{n}.up_proj.weight": weights[n] for n in range(12)}))
    assert list(source.tensors) == [f"{prefix}.up_proj.weight"]
    tensor = source.tensors[f"{prefix}.up_proj.weight"]
    assert (tensor.shape, tensor.size_bytes) == ((12, 6, 4), weights.nbytes)
    np.testing.assert_array_equal(tensor.floats(), weights.reshape(72, 4))
    np.testing.assert_array_equal(tensor.floats(4, 63), weights.reshape(72, 4)[4:63])
    np.testing.assert_array_equal(tensor.floats(13, 14), weights.reshape(72, 4)[13:14])


def test_fused_experts_are_split(tmp_path: Path) -> None:
    gate_up = RANDOM.standard_normal((3, 8, 4)).astype(np.float32)
    down = RANDOM.standard_normal((3, 4, 4)).astype(np.float32)
    prefix = "model.layers.0.mlp.experts"
    source = open_safetensors(write_model(tmp_path, {f"{prefix}.gate_up_proj": gate_up, f"{prefix}.down_proj": down}))
    for name, values in (("gate_proj", gate_up[:, :4]), ("up_proj", gate_up[:, 4:]), ("down_proj", down)):
        tensor = source.tensors[f"{prefix}.{name}.weight"]
        assert tensor.shape == values.shape
        np.testing.assert_array_equal(tensor.floats(), values.reshape(12, 4))
        np.testing.assert_array_equal(tensor.floats(3, 9), values.reshape(12, 4)[3:9])


@pytest.mark.parametrize(("numbers", "said"), [((0, 2), "expert 1 of .* is missing"), ((0, 1), "differ in shape")])
def test_experts_that_do_not_belong_together(tmp_path: Path, numbers: tuple[int, ...], said: str) -> None:
    tensors = {f"model.layers.0.mlp.experts.{n}.up_proj.weight": WEIGHT[: 6 - n] for n in numbers}
    with pytest.raises(ModelFilesError, match=said):
        open_safetensors(write_model(tmp_path, tensors))


@pytest.mark.parametrize(
    ("card", "license"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Hi", "apache-2.0"),
        ("---\r\ntags:\r\n- a\r\nlicense: 'mit'\r\n---\r\n", "mit"),
        ("---\nlicense: other\nlicense_name: gemma-terms\n---\n", "gemma-terms"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: [license]\n---\nlicense: mit\n", ""),
        ("license: mit\n", ""),
        ("---\nlicense: \x1b[31mred\n---\n", ""),
        (None, ""),
    ],
)
def test_the_license_is_that_of_the_model_card(tmp_path: Path, card: str | None, license: str) -> None:
    write_model(tmp_path, {"norm.weight": WEIGHT[0]})
    if card is not None:
        (tmp_path / "README.md").write_bytes(card.encode())
    assert open_safetensors(tmp_path).license == license


def test_the_name_in_the_cache_of_the_hub_is_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--owner--Some-Model-1B" / "snapshots" / "0123abcd"
    assert open_safetensors(write_model(folder, {"norm.weight": WEIGHT[0]})).name == "Some-Model-1B"


def test_files_are_the_weights_and_what_describes_them(tmp_path: Path) -> None:
    write_model(tmp_path, {"norm.weight": WEIGHT[0]})
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    (tmp_path / "notes.txt").write_text("")
    source = open_safetensors(tmp_path)
    assert [path.name for path in source.files] == ["model.safetensors", "config.json", "generation_config.json"]
    assert source.generation == {"eos_token_id": 2}


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no config.json"), ("[1]", "is not a JSON object"), ("{", "config.json")]
)
def test_a_broken_config_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    write_model(tmp_path, {"norm.weight": WEIGHT[0]})
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelFilesError, match=said):
        open_safetensors(tmp_path)


def test_the_tokenizer_is_written_from_that_of_the_folder(tmp_path: Path) -> None:
    write_model(tmp_path / "in", {"norm.weight": WEIGHT[0]}, eos_token_id=1)
    model = Path(__file__).parents[1] / "models" / "qwen2"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    facts = open_safetensors(tmp_path / "in").write_tokenizer(tmp_path / "out")
    assert 1 in facts.eos_ids
    written = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert written["model"] == json.loads((model / "tokenizer.json").read_text())["model"]
