"""What an import would write, why, and what is refused before it begins."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gguf_files import model_tensors, quantized, random_blocks, write_gguf
from support.safetensors_files import write_safetensors
from support.tiny_imports import SIZES, model_metadata, vocabulary, write_tiny_gguf, write_tiny_safetensors

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import folder_bytes
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.importer.plan import ImportPlan, open_source, plan_import, run_import
from lmsupply_cli.loading.importing import form_of
from lmsupply_cli.store.manifest import ImportForm


def plan(path: Path, *args: Any, **options: Any) -> ImportPlan:
    return plan_import(open_source(path), *args, **options)


def refused(path: Path) -> ModelFilesError:
    with pytest.raises(ModelFilesError) as caught:
        plan(path)
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value


def ids(model: Path) -> tuple[Any, Any, Any]:
    config = json.loads((model / CONFIG).read_text())["model"]
    return config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]


def mixed(path: Path, *kinds: str) -> Path:
    """The matrices of each layer in these kinds, in turn."""
    values: dict[str, Any] = {}
    for at, (name, value) in enumerate(model_tensors("llama", SIZES).items()):
        kind = kinds[at % len(kinds)]
        values[name] = value if value.ndim == 1 else quantized(kind, value)
    return write_gguf(path, "llama", model_metadata("llama", SIZES) | vocabulary(), values)


# -- the precision, and why --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "precision", "block", "form", "reason", "note"),
    [
        ("Q4_0", None, None, ImportForm("exact"), "its quantized weights are carried over as they are", ""),
        ("Q4_0", "exact", None, ImportForm("exact"), "as requested", ""),
        (
            "Q4_0",
            "int4",
            None,
            ImportForm("exact"),
            "its weights are int4 already, and are carried over as they are",
            "",
        ),
        (
            "Q8_0",
            "int8",
            None,
            ImportForm("exact"),
            "its weights are int8 already, and are carried over as they are",
            "",
        ),
        (
            "Q4_0",
            "int8",
            None,
            ImportForm("exact"),
            "its quantized weights are carried over as they are, since more bits",
            "",
        ),
        ("Q8_0", "int4", None, ImportForm("int4"), "as requested", ""),
        ("Q4_0", "int4", 32, ImportForm("int4", 32), "as requested", "again, in blocks of 32, which loses quality"),
        ("Q4_1", "int8", 64, ImportForm("int8", 64), "as requested", "again, in blocks of 64, which loses quality"),
        ("F16", None, None, ImportForm("int8", 32), "nearly as exact as its F16", ""),
        ("F16", "int4", None, ImportForm("int4", 32), "as requested", ""),
        ("F16", "int4", 32, ImportForm("int4", 32), "as requested", ""),
    ],
)
def test_the_precision_and_why(
    kind: str, precision: str | None, block: int | None, form: ImportForm, reason: str, note: str, tmp_path: Path
) -> None:
    planned = plan(write_tiny_gguf(tmp_path / "m.gguf", kind), precision, block)
    assert (form_of(planned), bool(planned.notes)) == (form, bool(note))
    assert planned.reason.startswith(reason)
    assert note in "".join(planned.notes)


def test_a_block_size_is_obeyed_although_the_source_has_codes(tmp_path: Path) -> None:
    planned = plan(write_tiny_gguf(tmp_path / "m.gguf", "Q4_1"), "int4", 64)
    linears = {form.name: form.form for form in planned.weights.forms if "layers" in form.name and form.kind == "Q4_1"}
    assert all(form.endswith(", quantized") for form in linears.values())
    assert linears["model.layers.0.mlp.gate_proj.weight"] == "4 bits, block 64, quantized"
    (tmp_path / "made").mkdir()
    assert run_import(planned, tmp_path / "made", lambda _: None) == planned.notes


def test_weights_of_which_some_are_carried_over_have_a_key_of_their_own(tmp_path: Path) -> None:
    path = mixed(tmp_path / "m.gguf", "Q4_0", "Q8_0")
    assert form_of(plan(path, "int4")) == ImportForm("int4")
    assert form_of(plan(path, "int4", 32)) == ImportForm("int4", 32)
    assert form_of(plan(path)) == ImportForm("exact")


def test_kinds_without_an_exact_form_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    values: dict[str, Any] = {}
    for name, value in model_tensors("llama", SIZES).items():
        values[name] = value if value.ndim == 1 else quantized("Q4_0", value)
        if name.endswith("ffn_gate.weight"):
            values[name] = random_blocks("NVFP4", value.shape)
    write_gguf(path, "llama", model_metadata("llama", SIZES) | vocabulary(), values)
    planned = plan(path)
    assert (planned.wish.precision, planned.reason) == (
        "exact",
        "its quantized weights are carried over as they are, but NVFP4 has no exact form here, and becomes 8 bits",
    )
    assert planned.notes == ()
    assert plan(path, "exact").notes == ("its NVFP4 weights have no exact form here, and become 8 bits",)


def fp8(folder: Path) -> Path:
    """A folder whose linears are in F8_E4M3."""
    write_tiny_safetensors(folder)
    tensors: dict[str, Any] = {}
    for name, tensor in open_source(folder).tensors.items():
        value = tensor.floats().reshape(tensor.shape)
        packed = "layers" in name and value.ndim == 2
        tensors[name] = ("F8_E4M3", np.full(value.shape, 0x28, np.uint8)) if packed else value
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_floats_of_8_bits_are_not_called_exact(tmp_path: Path) -> None:
    folder = fp8(tmp_path / "tuned")
    planned = plan(folder)
    assert (form_of(planned), planned.reason) == (
        ImportForm("int8", 32),
        "its F8_E4M3 weights have no exact form here, and become 8 bits",
    )
    assert set(planned.forms) == {"8 bits, block 32, quantized", "fp32"}
    assert plan(folder, preferred="fp16").wish.precision == "fp16"


# -- the tokenizer -----------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_is_not_supported_is_refused_by_the_plan(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", metadata={"tokenizer.ggml.pre": "nope"})
    assert "has an unknown pre-tokenizer: nope" in refused(path).message


def test_the_size_is_that_of_the_files(tmp_path: Path) -> None:
    planned = plan(write_tiny_gguf(tmp_path / "m.gguf"))
    (tmp_path / "made").mkdir()
    run_import(planned, tmp_path / "made", lambda _: None)
    assert 0 <= planned.write_bytes - folder_bytes(tmp_path / "made") < 25_000


def test_words_beyond_the_embedding_are_refused(tmp_path: Path) -> None:
    own = vocabulary()
    texts, kinds = own["tokenizer.ggml.tokens"], own["tokenizer.ggml.token_type"]
    assert len(texts) == len(kinds) <= SIZES.vocabulary
    texts += [f"<unused{number}>" for number in range(SIZES.vocabulary - len(texts))]
    kinds += [5] * (SIZES.vocabulary - len(kinds))
    more = {"tokenizer.ggml.tokens": [*texts, "beyond"], "tokenizer.ggml.token_type": [*kinds, 1]}
    error = refused(write_tiny_gguf(tmp_path / "m.gguf", metadata=more))
    assert "the token 'beyond' with the id 512, but the embedding has only 512 rows" in error.message
    assert error.hint


def changed_tokenizer(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    write_tiny_safetensors(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    change(tokenizer)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def added(token: int, text: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token, "content": text, "special": True, **flags}


def test_an_added_token_beyond_the_embedding_is_refused_where_the_template_writes_it(tmp_path: Path) -> None:
    """Gemma 3 has one for images, which does no harm."""
    folder = changed_tokenizer(tmp_path / "tuned", lambda t: t["added_tokens"].append(added(512, "<image>")))
    assert plan(folder).weights.size_bytes > 0
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "<image>")
    assert "the token '<image>' with the id 512" in refused(folder).message


TOKENS = 343  # of the tokenizer, in 512 rows


def without_end(folder: Path, rows: int, **settings: str) -> Path:
    """No file names an end. `rows`: of the embedding."""
    write_tiny_safetensors(folder, eos_token_id=None, vocab_size=rows)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tensors = {name: tensor.floats().reshape(tensor.shape) for name, tensor in open_source(folder).tensors.items()}
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:rows]
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


@pytest.mark.parametrize(
    ("rows", "settings", "end"),
    [
        (512, {}, TOKENS),  # a row that only fills the embedding up
        (512, {"bos_token": "<|im_start|>"}, TOKENS),
        (TOKENS, {"bos_token": "<|endoftext|>", "pad_token": "<|im_start|>"}, 0),
        (TOKENS, {"pad_token": "<|im_start|>"}, 1),
        (TOKENS, {"unk_token": "<|im_start|>"}, 1),
    ],
)
def test_without_an_end_token_another_stands_in_and_it_is_said(
    rows: int, settings: dict[str, str], end: int, tmp_path: Path
) -> None:
    planned = plan(without_end(tmp_path / "tuned", rows, **settings))
    assert planned.tokenizer.facts.eos_ids == (end,)
    said = "its tokenizer names no end token, so answers end only at `max_tokens` or a stop text"
    assert said in planned.notes
    (tmp_path / "made").mkdir()
    assert said in run_import(planned, tmp_path / "made", lambda _: None)
    assert ids(tmp_path / "made")[1] == end


def test_without_any_special_token_a_model_is_refused(tmp_path: Path) -> None:
    assert "names no end token, and no other special token" in refused(without_end(tmp_path / "tuned", TOKENS)).message


# -- files that change -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_that_changes_during_an_import_is_named(name: str, tmp_path: Path) -> None:
    planned = plan(write_tiny_safetensors(tmp_path / "tuned"))
    changed = tmp_path / "tuned" / name

    def touch(_: int) -> None:
        os.utime(changed, ns=(0, 1))

    (tmp_path / "made").mkdir()
    with pytest.raises(ModelFilesError, match=f"{name} changed while it was read"):
        run_import(planned, tmp_path / "made", touch)
