"""How large an import becomes, by what is known before the download."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.gguf_files import model_metadata, write_gguf
from support.tiny_imports import vocabulary, write_tiny_gguf

from lmsupply_cli.hub.sources import GGUF, SAFETENSORS, SourceVariant
from lmsupply_cli.hub.tree import RepoFile
from lmsupply_cli.importer.forms import Wish
from lmsupply_cli.importer.gguf_file import read_metadata
from lmsupply_cli.importer.plan import open_source, plan_import
from lmsupply_cli.loading.source_sizes import (
    SourceFacts,
    facts_of_config,
    facts_of_gguf,
    is_exact,
    kinds_of,
    written_bytes,
)

GB = 10**9
EXACT, NO_TEXT = Wish("exact"), SourceFacts(text_bytes=0)


def gguf(quantization: str, size: int = GB) -> SourceVariant:
    return SourceVariant(GGUF, quantization.lower(), (RepoFile("x.gguf", size),), quantization)


def growth(quantization: str, wish: Wish = EXACT) -> float:
    return written_bytes(gguf(quantization), wish, NO_TEXT) / GB


@pytest.mark.parametrize(
    ("quantization", "in_file", "written"),
    [
        ("Q4_0", 4.5, 5), ("Q4_1", 5, 6), ("Q4_K", 4.5, 6), ("Q3_K", 3.4375, 6), ("Q2_K", 2.625, 8), ("IQ2_XXS", 2.0625, 9),
        ("IQ3_XXS", 3.0625, 9), ("IQ4_XS", 4.25, 9), ("IQ4_NL", 4.5, 9), ("MXFP4", 4.25, 9), ("Q5_0", 5.5, 9), ("Q8_0", 8.5, 9),
        ("Q5_1", 6, 10), ("Q5_K", 5.5, 10), ("Q6_K", 6.5625, 10), ("F16", 16, 32), ("UD-IQ4_XS", 4.25, 9), ("Q4", 4.5, 6),
    ],
)  # fmt: skip
def test_bits_of_a_weight(quantization: str, in_file: float, written: float) -> None:
    assert growth(quantization) == pytest.approx(written / in_file)


def test_a_mix_counts_a_tenth_of_its_finer_type() -> None:
    assert kinds_of("UD-Q4_K_XL") == kinds_of("Q4_K_M") == (("Q4_K", 0.9), ("Q6_K", 0.1))
    assert growth("Q4_K_M") == pytest.approx((0.9 * 6 + 0.1 * 10) / (0.9 * 4.5 + 0.1 * 6.5625))
    assert 1.59 * growth("Q3_K_M") > 1.93 * growth("Q4_K_M"), "the files of Qwen2.5-3B: the import of Q3_K_M is larger"


@pytest.mark.parametrize(
    ("quantization", "wish", "written"),
    [
        ("Q4_K", Wish("int8"), 6),
        ("Q8_0", Wish("fp16"), 16),
        ("Q4_0", Wish("fp32"), 32),
        ("F16", Wish("int8"), 9),
        ("F16", Wish("int8", 128), 0.8 * 8.25 + 0.2 * 9),
        ("F16", Wish("int4"), 0.8 * 5.125 + 0.2 * 9),
    ],
)
def test_other_precisions(quantization: str, wish: Wish, written: float) -> None:
    in_file = {"Q4_K": 4.5, "Q8_0": 8.5, "Q4_0": 4.5, "F16": 16}[quantization]
    assert growth(quantization, wish) == pytest.approx(written / in_file)


def safetensors(*texts: tuple[str, int]) -> SourceVariant:
    files = (RepoFile("model.safetensors", GB), *(RepoFile(*text) for text in texts))
    return SourceVariant(SAFETENSORS, "safetensors", files)


@pytest.mark.parametrize(("stated", "size"), [("float32", 1.0), ("bfloat16", 2.0), ("float16", 2.0), (None, 2.0)])
def test_the_type_in_the_config(stated: str | None, size: float) -> None:
    facts = facts_of_config({"torch_dtype": stated}, 0)
    assert written_bytes(safetensors(), Wish("fp32"), facts) == size * GB
    assert (
        facts_of_config({"dtype": stated}, 0) == facts_of_config({"text_config": {"torch_dtype": stated}}, 0) == facts
    )


def test_quantized_safetensors() -> None:
    """Their vocabulary is in floats, which become floats of 32 bits."""
    config = {"vocab_size": 50_000, "hidden_size": 1000, "quantization_config": {"group_size": 32}, "dtype": "float16"}
    facts = facts_of_config(config, 4)
    assert facts.float_bytes == 2 * 50_000 * 1000 * 2
    assert written_bytes(safetensors(), EXACT, facts) == pytest.approx(0.2 * GB * 2 + 0.8 * GB * 5.125 / 4.625)


def test_the_texts_of_safetensors() -> None:
    words = (("tokenizer.json", 5000), ("tokenizer.model", 800), ("model.safetensors.index.json", 70_000))
    assert written_bytes(safetensors(*words), Wish("fp16")) == GB + 5800
    assert written_bytes(safetensors(("tokenizer.model", 800)), Wish("fp16")) == GB + 6400


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_the_estimate_of_a_small_file(tmp_path: Path, kind: str) -> None:
    path = write_tiny_gguf(tmp_path / "x.gguf", kind)
    facts = facts_of_gguf(read_metadata(path.read_bytes(), "x.gguf"))
    exact = plan_import(open_source(path)).weights.size_bytes
    assert facts.text_bytes is not None
    estimate = written_bytes(gguf(kind, path.stat().st_size), EXACT, facts) - facts.text_bytes
    assert 0.7 * exact < estimate < 1.5 * exact


def test_a_vocabulary_that_is_further_back(tmp_path: Path) -> None:
    for count, size in ((128_256, 17_955_840), (0, None)):
        data = model_metadata("llama") | {"llama.vocab_size": count} | vocabulary()
        path = write_gguf(tmp_path / "x.gguf", "llama", data, {})
        head = path.read_bytes()
        cut = head.index(b"tokenizer.ggml.tokens")
        assert facts_of_gguf(read_metadata(head[:cut], "x")).text_bytes == size


def test_what_has_no_exact_form() -> None:
    assert [is_exact(gguf(name)) for name in ("Q4_K_M", "IQ4_XS", "F16", "", "IQ2_XXS", "TQ1_0")] == [True] * 4 + [
        False
    ] * 2
