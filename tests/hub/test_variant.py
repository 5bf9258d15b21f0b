from __future__ import annotations

import pytest

from lmsupply_cli.errors import LmsupplyError, ModelNotFound, UsageError
from lmsupply_cli.hub.licences import tier_of
from lmsupply_cli.hub.tree import RepoTree
from lmsupply_cli.hub.variant import choose_variant, find_variants

PHI3 = ["cpu_and_mobile/cpu-int4-rtn-block-32", "cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4", "directml/directml-int4-awq-block-128",
        "cuda/cuda-int4-rtn-block-32", "cuda/cuda-fp16"]  # fmt: skip
PHI35 = ["cpu_and_mobile/cpu-int4-awq-block-128-acc-level-4", "gpu/gpu-int4-awq-block-128"]
QWEN3 = ["onnxruntime/cpu_and_mobile/cpu-int4-kld-block-128", "onnxruntime/cuda/cuda-int4-kld-block-128",
         "onnxruntime/webgpu/webgpu-int4-kld-block-32"]  # fmt: skip
REASONING = ["cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4", "gpu/gpu-int4-rtn-block-32", "npu/qnn-int4"]


def tree(folders: list[str], *more: str) -> RepoTree:
    names = ("genai_config.json", "model.onnx", "model.onnx.data", "tokenizer.json")
    files = {f"{folder}/{name}".lstrip("/"): 10 for folder in folders for name in names}
    return RepoTree("a/b", "c" * 40, files | dict.fromkeys(more, 5))


@pytest.mark.parametrize(
    ("folders", "provider", "precision", "chosen"),
    [
        (PHI3, "cpu", "auto", PHI3[1]),
        (PHI3, "cuda", "auto", PHI3[3]),
        (PHI3, "cuda", "fp16", PHI3[4]),
        (PHI3, "dml", "auto", PHI3[2]),
        (PHI35, "cpu", "auto", PHI35[0]),
        (PHI35, "cuda", "auto", PHI35[1]),
        (PHI35, "dml", "auto", PHI35[1]),
        (QWEN3, "cpu", "auto", QWEN3[0]),
        (QWEN3, "cuda", "auto", QWEN3[1]),
        (QWEN3, "webgpu", "auto", QWEN3[2]),
        (REASONING, "cpu", "auto", REASONING[0]),
        (REASONING, "cuda", "auto", REASONING[1]),
        ([""], "cpu", "auto", ""),
        ([""], "cuda", "auto", ""),
    ],
)
def test_the_right_folder_for_each_provider(folders: list[str], provider: str, precision: str, chosen: str) -> None:
    resolution = choose_variant(find_variants(tree(folders)), provider=provider, precision=precision)
    assert resolution.chosen.folder == chosen
    assert resolution.reasons
    assert {v.folder for v, _ in resolution.rejected} == set(folders) - {chosen}


def test_several_models_in_one_repo_are_never_guessed() -> None:
    folders = [
        f"deepseek-r1-distill-qwen-{size}/cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4" for size in ("1.5B", "7B")
    ]
    with pytest.raises(UsageError, match="several models"):
        choose_variant(find_variants(tree(folders)), provider="cpu")
    assert choose_variant(find_variants(tree(folders)), provider="cpu", wanted="qwen-7b").chosen.folder == folders[1]


@pytest.mark.parametrize("wanted", ["nothing", "int4"])
def test_a_part_of_a_name_must_be_unique(wanted: str) -> None:
    with pytest.raises(UsageError, match="variants match"):
        choose_variant(find_variants(tree(PHI35)), provider="cpu", wanted=wanted)


def test_only_a_variant_for_another_device() -> None:
    with pytest.raises(ModelNotFound, match="no variant runs on cpu"):
        choose_variant(find_variants(tree(["gpu/gpu-int4-rtn-block-32"])), provider="cpu")


def test_files_are_the_folders_own_and_a_tokenizer_from_above() -> None:
    files = dict.fromkeys(
        ["cpu/genai_config.json", "cpu/m.onnx", "cpu/m.onnx.data", "cpu/x.azDownload-1", "tokenizer.json", "LICENSE"], 1
    )
    (variant,) = find_variants(RepoTree("a/b", "c", files))
    assert variant.files == ("cpu/genai_config.json", "cpu/m.onnx", "cpu/m.onnx.data", "tokenizer.json")
    assert variant.size_bytes == 4


def test_a_repo_in_another_format_is_said() -> None:
    with pytest.raises(LmsupplyError, match=r"no genai_config\.json"):
        find_variants(RepoTree("a/b", "c", {"onnx/model.onnx": 1}))


@pytest.mark.parametrize(
    ("name", "tier"),
    [("mit", "permissive"), ("Apache-2.0", "permissive"), ("llama3.2", "conditional"), ("gemma", "conditional"),
     ("qwen-research", "research"), ("cc-by-nc-4.0", "research"), ("", "unknown"), ("other", "unknown")],
)  # fmt: skip
def test_tiers(name: str, tier: str) -> None:
    assert tier_of(name) == tier
