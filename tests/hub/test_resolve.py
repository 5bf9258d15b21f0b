"""Which variant is chosen, over layouts of real repositories."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli.errors import LmsupplyError, ModelNotFound, UsageError
from lmsupply_cli.hub.licenses import tier_of
from lmsupply_cli.hub.resolve import VariantWish, resolve
from lmsupply_cli.hub.tree import RepoFile, RepoTree, is_safe_path
from lmsupply_cli.hub.variant import find_variants

LAYOUTS: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent.parent / "data" / "layouts.toml").read_text())[
    "layout"
]
CASES = [(row, provider) for row in LAYOUTS for provider in ("cpu", "cuda", "dml", "webgpu") if provider in row]


def tree(row: dict[str, Any]) -> RepoTree:
    names = ("genai_config.json", "model.onnx", "model.onnx.data", "tokenizer.json")
    paths = [f"{folder}/{name}".lstrip("/") for folder in row["folders"] for name in names]
    configs = {}
    for folder in row["folders"]:
        declared = row.get("declared", {}).get(folder)
        options = [{declared: {}}] if declared else []
        decoder = {"filename": "model.onnx", "session_options": {"provider_options": options}}
        configs[f"{folder}/genai_config.json".lstrip("/")] = json.dumps({"model": {"type": "phi3", "decoder": decoder}})
    return RepoTree("a/b", "c" * 40, {path: RepoFile(path, 10) for path in paths}, configs=configs)


def test_there_are_enough_layouts() -> None:
    assert len(LAYOUTS) >= 40


@pytest.mark.parametrize(("row", "provider"), CASES, ids=[f"{row['repo']}-{provider}" for row, provider in CASES])
def test_the_right_folder(row: dict[str, Any], provider: str) -> None:
    variants, expected = find_variants(tree(row)), row[provider]
    wish, folder = VariantWish(provider, row.get("precision", "auto")), row.get("within", "")
    if expected in ("-", "several"):
        kind, said = (ModelNotFound, "no variant runs on") if expected == "-" else (UsageError, "several models")
        with pytest.raises(kind, match=said) as caught:
            resolve(variants, wish, folder=folder)
        assert all((name or "(root)") in caught.value.hint for name in row["folders"])
        return
    found = resolve(variants, wish, folder=folder)
    assert found.chosen.folder == expected
    assert all(found.reasons)
    assert sorted([found.chosen.folder, *(v.folder for v, _ in found.rejected)]) == sorted(row["folders"])
    assert all(reason for _, reason in found.rejected)


PHI35 = {"folders": ["cpu_and_mobile/cpu-int4-awq-block-128-acc-level-4", "gpu/gpu-int4-awq-block-128"]}


def test_a_variant_that_is_asked_for() -> None:
    variants = find_variants(tree(PHI35))
    assert resolve(variants, VariantWish(variant="gpu")).chosen.folder == PHI35["folders"][1]
    assert resolve(variants, VariantWish(variant=PHI35["folders"][0])).reasons == ("you asked for it",)
    for wanted, said in (("int4", "2 variants match"), ("nothing", "no variant matches")):
        with pytest.raises(UsageError, match=said):
            resolve(variants, VariantWish(variant=wanted))


def test_files_of_a_variant() -> None:
    paths = ["cpu/genai_config.json", "cpu/x.onnx", "cpu/x.onnx.data", "cpu/x.azDownload-1", "cpu/README.md", "parts/extra.onnx",
             "parts/extra.onnx.data", "tokenizer.json", "chat_template.jinja", "LICENSE", "other/model.onnx"]  # fmt: skip
    config = json.dumps(
        {"model": {"type": "x", "decoder": {"filename": "x.onnx"}, "embedding": {"filename": "../parts/extra.onnx"}}}
    )
    files = {path: RepoFile(path, 1) for path in paths}
    (variant,) = find_variants(RepoTree("a/b", "c", files, configs={"cpu/genai_config.json": config}))
    names = [
        "LICENSE",
        "chat_template.jinja",
        "cpu/genai_config.json",
        "cpu/x.onnx",
        "cpu/x.onnx.data",
        "tokenizer.json",
    ]
    assert [file.path for file in variant.files] == names
    assert variant.size_bytes == len(names)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("onnx/model_q4f16.onnx", "transformers.js layout"),
        ("model.onnx", "plain ONNX"),
        ("m-Q4_K_M.gguf", "GGUF"),
        ("model-00001-of-2.safetensors", "safetensors"),
        ("README.md", "no genai_config.json and no weights"),
    ],
)
def test_a_repo_in_another_format_is_said(path: str, said: str) -> None:
    with pytest.raises(LmsupplyError, match=said):
        find_variants(RepoTree("a/b", "c", {path: RepoFile(path, 1)}))


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("mit", "permissive"), ("Apache-2.0", "permissive"), ("llama3.2", "conditional"), ("gemma", "conditional"),
        ("qwen-research", "research"), ("cc-by-nc-4.0", "research"), ("", "unknown"), ("other", "unknown"),
    ],
)  # fmt: skip
def test_tiers(name: str, tier: str) -> None:
    assert tier_of(name) == tier


GOOD = ["a", "a/b.onnx", "onnx/x y.onnx", "Upload Qwen2.5 ONNX files/text.onnx", "a/..b", "console.txt", "日本/x"]
BAD = [
    "",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a//b",
    "a/./b",
    "C:/x",
    "a\\b",
    "~/x",
    "con",
    "a/NUL.txt",
    "LPT1",
    "x\x00",
    "a/x.",
    "a/b ",
    "a?b",
]


def test_paths_that_may_be_written() -> None:
    assert all(is_safe_path(path) for path in GOOD)
    assert not any(is_safe_path(path) for path in BAD)
