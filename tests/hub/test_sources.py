"""Which file of a repo is imported, over layouts of real repositories."""

from __future__ import annotations

import pytest

from lmsupply_cli.errors import ModelNotFound, UsageError
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.hub.sources import (
    Room,
    SourceVariant,
    choose_source,
    find_sources,
    precision_of,
    quantization_of,
    wants_source,
    weight_files,
)
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.hub.variant import find_variants

GB = 10**9


def tree(*paths: str, **sizes: int) -> RepoTree:
    """`sizes`: of the file that holds this word, in bytes."""
    found = {path: next((size for word, size in sizes.items() if word in path), 1000) for path in paths}
    return RepoTree("a/b", "c" * 40, {path: RepoFile(path, size) for path, size in found.items()})


def quantized(*names: str, stem: str = "Qwen2.5-3B-Instruct") -> tuple[str, ...]:
    return tuple(f"{stem}-{name}.gguf" for name in names)


BARTOWSKI = quantized(
    "IQ2_M", "IQ3_M", "IQ4_XS", "Q3_K_L", "Q4_0", "Q4_K_L", "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q6_K", "Q8_0", "f16"
)
SHARDS = ("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
          "tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md", ".gitattributes")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "quantization", "precision"),
    [
        ("qwen2.5-3b-instruct-q4_k_m.gguf", "Q4_K_M", "int4"),
        ("Meta-Llama-3.1-8B-Instruct.Q5_K_S.gguf", "Q5_K_S", ""),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Q4", "int4"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "FP16", "fp16"),
        ("gemma-3-1b-it-UD-Q4_K_XL.gguf", "UD-Q4_K_XL", "int4"),
        ("x.i1-IQ4_XS.gguf", "IQ4_XS", "int4"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4", "int4"),
        ("m-BF16-00001-of-00003.gguf", "BF16", "bf16"),
        ("m-Q4_0_4_8.gguf", "Q4_0_4_8", "int4"),
        ("m-q8_0.gguf", "Q8_0", "int8"),
        ("m.F32.gguf", "F32", "fp32"),
        ("Q4_K_M/m.gguf", "Q4_K_M", "int4"),
        ("smollm2-360m.gguf", "", ""),
        ("q4bert.gguf", "", ""),
        ("SmolLM-1.7B-Q3_K.gguf", "Q3_K", ""),
    ],
)
def test_quantizations_by_name(name: str, quantization: str, precision: str) -> None:
    assert quantization_of(name) == quantization
    assert precision_of(quantization) == precision


@pytest.mark.parametrize(
    ("wish", "expected", "reason"),
    [
        (VariantWish(), "q4_k_m", "the usual compromise of size and quality"),
        (VariantWish(precision="int4"), "q4_k_m", "int4"),
        (VariantWish(precision="int8", by_machine=True), "q4_k_m", "the usual compromise of size and quality"),
        (VariantWish(precision="int8"), "q8_0", "int8"),
        (VariantWish(precision="int8", exact=True), "q8_0", "the only one in int8"),
        (VariantWish(precision="fp16", exact=True), "f16", "the only one in fp16"),
        (VariantWish(precision="bf16", exact=True), "f16", "the only one in fp16"),
        (VariantWish(variant="q5_k_m"), "q5_k_m", "you asked for it"),
        (VariantWish(variant="Q4_K_M"), "q4_k_m", "you asked for it"),
        (VariantWish(variant="Qwen2.5-3B-Instruct-Q6_K.gguf"), "q6_k", "you asked for it"),
        (VariantWish(variant="qwen2.5-3b-instruct-q6_k"), "q6_k", "you asked for it"),
        (VariantWish(variant="q4_k"), "q4_k_m", "the best of what you asked for"),
        (VariantWish(variant="gguf"), "q4_k_m", "the best of what you asked for"),
        (VariantWish(variant="iq"), "iq4_xs", "the best of what you asked for"),
    ],
)
def test_the_quantization(wish: VariantWish, expected: str, reason: str) -> None:
    repo = tree(*BARTOWSKI, "README.md", "mmproj-model-f16.gguf", "Qwen2.5-3B-Instruct.imatrix", "imatrix-Q4_K_M.gguf")
    assert wants_source(repo, wish)
    choice = choose_source(repo, wish)
    assert choice.chosen.name == expected
    assert reason in choice.reasons
    assert [file.path for file in choice.chosen.files] == [
        p for p in BARTOWSKI if p.lower().endswith(f"{expected}.gguf")
    ]
    assert len(choice.rejected) == len(BARTOWSKI) - 1
    assert all(why for _, why in choice.rejected)


IMPORTED = {"Q3_K_M": 6.4, "Q4_K_M": 6.4, "Q4_0": 5, "Q8_0": 9, "IQ2_XXS": 9}  # bits of a weight


def imported_bytes(source: SourceVariant) -> int:
    return int(IMPORTED[source.quantization] * GB)


@pytest.mark.parametrize(
    ("room_gb", "expected", "reason"),
    [
        (10, "q4_k_m", "the usual compromise of size and quality"),
        (6.4, "q4_k_m", "the usual compromise of size and quality"),
        (6, "q4_0", "the best that fits the available memory"),
        (4, "q4_0", "the smallest once imported: none fits the available memory"),
    ],
)
def test_the_memory_of_the_machine(room_gb: float, expected: str, reason: str) -> None:
    """What counts is the size of the import, not that of the file."""
    repo = tree(*quantized(*IMPORTED), IQ2=GB, Q3=2 * GB, Q4=3 * GB, Q8=6 * GB)
    choice = choose_source(repo, VariantWish(), Room(int(room_gb * GB), imported_bytes))
    assert (choice.chosen.name, choice.reasons) == (expected, (reason,))
    why = {source.name: reason for source, reason in choice.rejected}
    if room_gb == 6:
        assert why["iq2_xxs"] == "9.0 GB once imported, more than fits the available memory"
    if room_gb == 4:
        assert (why["q3_k_m"], why["q8_0"]) == ("6.4 GB once imported", "9.0 GB once imported")
    if room_gb == 10:
        assert set(why.values()) == {"Q4_K_M is preferred"}


def test_a_preference_yields_to_the_memory() -> None:
    repo = tree(*quantized("Q4_K_M", "Q8_0"))
    choice = choose_source(repo, VariantWish(precision="int8"), Room(7 * GB, imported_bytes))
    assert (choice.chosen.name, choice.reasons) == ("q4_k_m", ("the best that fits the available memory",))
    assert choose_source(repo, VariantWish(precision="int8"), Room(9 * GB, imported_bytes)).chosen.name == "q8_0"


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (("Q8_0", "Q6_K", "Q5_K_M"), "q8_0"),
        (("Q6_K", "Q5_K_M", "Q5_1"), "q6_k"),
        (("Q5_K_M", "IQ4_XS", "MXFP4"), "q5_k_m"),
        (("IQ4_XS", "Q8_0"), "q8_0"),
        (("F16", "IQ4_XS"), "iq4_xs"),
        (("Q3_K_M", "BF16"), "q3_k_m"),
        (("F16", "F32"), "f16"),
        (("Q4_0", "Q4_K_S"), "q4_k_s"),
        (("Q2_K", "F16"), "f16"),
        (("UD-Q4_K_XL", "Q5_K_M"), "ud-q4_k_xl"),
    ],
)
def test_without_the_usual_one(names: tuple[str, ...], best: str) -> None:
    assert choose_source(tree(*quantized(*names)), VariantWish()).chosen.name == best


def test_split_files_are_one_source() -> None:
    parts = [f"BF16/M-BF16-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    repo = tree(*parts, "M-Q4_K_M.gguf", "LICENSE", "deep/LICENSE.txt")
    choice = choose_source(repo, VariantWish(precision="fp16", exact=True))
    assert [file.path for file in choice.chosen.files] == parts
    assert [file.path for file in choice.chosen.licenses] == ["LICENSE"]
    broken = tree(*parts[:2], "M-Q8_0.gguf")
    choice = choose_source(broken, VariantWish())
    assert (choice.chosen.name, choice.rejected[0][1]) == ("q8_0", "1 of its parts are missing")
    with pytest.raises(ModelNotFound, match="a/b lacks parts of bf16"):
        choose_source(tree(*parts[1:]), VariantWish())


def test_several_models_are_told_apart() -> None:
    repo = tree(*quantized("Q4_K_M", "Q8_0", stem="Small"), *quantized("Q4_K_M", stem="sub/Large"))
    with pytest.raises(UsageError, match="several models") as caught:
        choose_source(repo, VariantWish())
    assert "small-q4_k_m" in caught.value.hint
    assert "sub/large-q4_k_m" in caught.value.hint
    assert choose_source(repo, VariantWish(variant="sub/large-q4_k_m")).chosen.files[0].path == "sub/Large-Q4_K_M.gguf"
    assert choose_source(repo, VariantWish(variant="small")).chosen.files[0].path == "Small-Q4_K_M.gguf"
    for wish in (VariantWish(variant="q4_k_m"), VariantWish(precision="int4", exact=True)):
        with pytest.raises(UsageError, match="several models"):
            choose_source(repo, wish)
    with pytest.raises(UsageError, match="nothing in the repo matches 'q5_k_m'") as caught:
        choose_source(repo, VariantWish(variant="q5_k_m"))
    assert "small-q8_0" in caught.value.hint


def test_a_precision_that_is_not_there() -> None:
    repo = tree(*quantized("Q4_K_M", "Q5_K_M"))
    with pytest.raises(UsageError, match="no GGUF file in int8") as caught:
        choose_source(repo, VariantWish(precision="int8", exact=True))
    assert "it has q4_k_m, q5_k_m" in caught.value.hint
    both = tree(*quantized("Q4_K_M", "Q5_K_M"), *SHARDS)
    choice = choose_source(both, VariantWish(precision="int8", exact=True))
    assert (choice.chosen.format, choice.reasons) == ("safetensors", ("no GGUF file is in int8",))
    assert {why for _, why in choice.rejected} == {"not int8"}


def test_the_reason_of_the_only_one() -> None:
    assert choose_source(tree(*SHARDS), VariantWish()).reasons == ("the repository has neither ONNX nor GGUF",)
    assert choose_source(tree(*quantized("Q8_0"), *SHARDS), VariantWish()).reasons == ("the only GGUF file",)


def test_safetensors() -> None:
    choice = choose_source(tree(*SHARDS, "original/consolidated.00.pth", "LICENSE"), VariantWish())
    assert (choice.chosen.name, choice.chosen.format) == ("safetensors", "safetensors")
    assert {file.path for file in choice.chosen.files} == set(SHARDS[:7])
    assert [file.path for file in choice.chosen.weights] == list(SHARDS[1:3])
    assert choose_source(tree(*SHARDS, *quantized("Q8_0")), VariantWish()).chosen.format == "gguf"
    assert (
        choose_source(tree(*SHARDS, *quantized("Q8_0")), VariantWish(variant="safetensors")).chosen.format
        == "safetensors"
    )
    mistral = tree(*SHARDS, "consolidated.safetensors")
    assert len(choose_source(mistral, VariantWish()).chosen.weights) == 2
    (one,) = find_sources(
        tree("config.json", "model.safetensors", "adapter_model.safetensors", "unet/config.json", "unet/x.safetensors")
    )
    assert [file.path for file in one.weights] == ["model.safetensors"]
    with pytest.raises(ModelNotFound, match="lacks parts of safetensors"):
        choose_source(tree(*(path for path in SHARDS if "00001" not in path)), VariantWish())
    deeper = tree("small/config.json", "small/model.safetensors", "large/config.json", "large/model.safetensors")
    with pytest.raises(UsageError, match="several models"):
        choose_source(deeper, VariantWish())
    assert choose_source(deeper, VariantWish(variant="large")).chosen.files[0].path == "large/model.safetensors"


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (("model.safetensors",), ["model.safetensors"]),
        (("model.safetensors", "consolidated.safetensors", *SHARDS[1:4]), ["model.safetensors"]),
        (SHARDS, list(SHARDS[1:3])),
        (SHARDS[:3], []),
        (("weights.safetensors",), []),
        (("adapter_model.safetensors",), []),
        (("x-00001-of-00001.safetensors", "model.safetensors.index.json"), ["x-00001-of-00001.safetensors"]),
        (("x-00001-of-00001.safetensors", "x.safetensors.index.json"), []),
        (("x-00001-of-00001.safetensors", "y-00001-of-00001.safetensors", "model.safetensors.index.json"), []),
    ],
)
def test_names_of_weights(names: tuple[str, ...], weights: list[str]) -> None:
    """Those that the importer reads, and no others."""
    assert weight_files(names) == (weights, 0)


def test_a_chat_template_travels_with_safetensors() -> None:
    (source,) = find_sources(tree("config.json", "model.safetensors", "chat_template.json", "a/chat_template.json"))
    assert [file.path for file in source.files] == ["model.safetensors", "config.json", "chat_template.json"]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (("config.json", "pytorch_model.bin"), "PyTorch pickles only"),
        (("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"), "PyTorch pickles only"),
        (("original/consolidated.00.pth", "params.json"), "PyTorch pickles only"),
        (("adapter_model.safetensors", "adapter_config.json"), "contains no model that can be imported"),
        (("model.safetensors",), "contains no model that can be imported: it is safetensors"),
        (("mmproj-f16.gguf",), "contains no model that can be imported"),
        (("README.md",), "no weights"),
        (("config.json", "weights.safetensors"), "a/b has its weights in weights.safetensors, "),
    ],
)
def test_what_is_no_source(paths: tuple[str, ...], said: str) -> None:
    repo = tree(*paths)
    assert wants_source(repo, VariantWish()) == ("pickles" in said or "has its weights" in said)
    with pytest.raises(ModelNotFound, match=said):
        choose_source(repo, VariantWish())


def test_a_variant_in_genai_format_comes_first() -> None:
    repo = tree("cpu-int4/genai_config.json", "cpu-int4/model.onnx", *quantized("Q4_K_M"), *SHARDS)
    assert len(find_variants(repo)) == 1
    for variant, wanted in (
        (None, False),
        ("int4", False),
        ("gguf", True),
        ("q4_k_m", True),
        ("safetensors", True),
        ("q9", False),
    ):
        assert wants_source(repo, VariantWish(variant=variant)) == wanted
