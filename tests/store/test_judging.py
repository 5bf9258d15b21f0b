"""What of a repo is fetched, and what is said before: whether it can run here at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import lmsupply
from support.hub import Hub, Repo, local_hub

import lmsupply_cli
from lmsupply_cli import load
from lmsupply_cli.errors import LmsupplyError, ModelFilesError, ModelNotFound
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.store.locate import locate
from lmsupply_cli.store.pull import plan_pull, run_pull

GUIDE = Path(lmsupply_cli.__file__).parent / "builtin" / "guide"
CONFIG = "genai_config.json"


def files(folder: str = "", **changes: Any) -> dict[str, bytes]:
    """The guide's; `changes` in its `model`, or in its session options."""
    found = {f"{folder}/{path.name}".lstrip("/"): path.read_bytes() for path in GUIDE.iterdir()}
    config = json.loads((GUIDE / CONFIG).read_text())
    for key, value in changes.items():
        place = config["model"]["decoder"]["session_options"] if key in ("provider_options", "custom_ops_library") else config["model"]  # fmt: skip
        place[key] = value
    return found | {f"{folder}/{CONFIG}".lstrip("/"): json.dumps(config).encode()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def answers(name: str, root: Path) -> bool:
    with load(locate(name, root).path) as model:
        return bool(model.generate("hello", max_tokens=2).text)


def test_only_what_a_variant_in_the_root_needs(hub: Hub, tmp_path: Path) -> None:
    beside = ("model.safetensors", "model-q4.gguf", "model_fp16.onnx", "model_fp16.onnx.data", "pytorch_model.bin",
              "consolidated.00.pth", "demo.mp4", "model.safetensors.index.json", "README.md", "modeling.py")  # fmt: skip
    small = {"generation_config.json": b"{}", "special_tokens_map.json": b"{}", "LICENSE": b"MIT", "config.json": b"{}"}
    hub.repos["a/b"] = Repo(files() | dict.fromkeys(beside, b"x" * 3000) | small)
    plan = plan_pull("a/b", tmp_path)
    assert {planned.file.path for planned in plan.files} == set(files()) | set(small)
    assert plan.obstacles == ()


@pytest.mark.parametrize("above", ["", "cpu/"])
def test_a_tokenizer_above_the_variant_ends_up_beside_the_config(hub: Hub, tmp_path: Path, above: str) -> None:
    content = files("cpu/cpu-int4")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        content[above + name] = content.pop(f"cpu/cpu-int4/{name}")
    hub.repos["a/b"] = Repo(content)
    run_pull(plan_pull("a/b", tmp_path), tmp_path)
    assert answers("a/b", tmp_path)


def test_weights_under_any_name_are_fetched_once_the_graph_names_them(hub: Hub, tmp_path: Path) -> None:
    content = files(
        decoder={**json.loads((GUIDE / CONFIG).read_text())["model"]["decoder"], "filename": "onnx/model.onnx"}
    )
    graph, data = content.pop("model.onnx"), content.pop("model.onnx.data")
    content |= {"onnx/model.onnx": graph.replace(b"model.onnx.data", b"weights-01.data"), "onnx/weights-01.data": data}
    hub.repos["a/b"] = Repo(content)
    manifest = run_pull(plan_pull("a/b", tmp_path), tmp_path)
    assert "onnx/weights-01.data" in manifest.files
    assert answers("a/b", tmp_path)


def test_the_best_of_a_folder_that_holds_several(hub: Hub, tmp_path: Path) -> None:
    hub.repos["a/b"] = Repo(files("phi/cpu-int4") | files("phi/gpu-int4") | files("llama/cpu-int4"))
    plan = plan_pull("a/b:phi", tmp_path)
    assert plan.resolution.chosen.folder == "phi/cpu-int4"
    assert {v.folder: why for v, why in plan.resolution.rejected}["phi/gpu-int4"] == "made for gpu"


NEVER: list[tuple[dict[str, bytes], str]] = [
    ({path: data for path, data in files().items() if path != "tokenizer.json"}, "tokenizer.json is missing"),
    ({path: data for path, data in files().items() if path != "tokenizer_config.json"}, "tokenizer_config.json is missing"),
    (files() | {CONFIG: b'{"a": 1}'}, "it has no model.type"),
    (files(type="whisper"), "not a chat model: a model of type whisper"),
    (files(custom_ops_library="ops.dll"), "wants to load a library"),
    (files(decoder={"filename": "model.onnx", "pipeline": None}), "model.decoder.pipeline is not a list: null"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), NEVER, ids=[said for _, said in NEVER])
def test_what_never_runs_is_said_and_not_fetched(
    hub: Hub, tmp_path: Path, content: dict[str, bytes], said: str
) -> None:
    hub.repos["a/b"] = Repo(content)
    plan = plan_pull("a/b", tmp_path)
    assert said in plan.obstacles[0].text
    with pytest.raises(LmsupplyError, match="does not run here") as caught:
        run_pull(plan, tmp_path)
    assert caught.value.exit_code == 1
    assert hub.of("cdn") == []
    dry = lmsupply("pull", "--dry-run", "a/b")
    assert dry.code == 0
    assert "cannot run" in dry.out
    assert "cannot run" in lmsupply("show", "a/b").out
    assert said in lmsupply("show", "a/b", "--json").json["obstacles"][0]["reason"]


def test_a_variant_that_runs_is_preferred(hub: Hub, tmp_path: Path) -> None:
    hub.repos["a/b"] = Repo(files("cpu/cpu-int4", type="phi3v") | files("cpu/cpu-int8"))
    plan = plan_pull("a/b", tmp_path)
    assert plan.resolution.chosen.folder == "cpu/cpu-int8"
    assert "not a chat model" in plan.resolution.rejected[0][1]


@pytest.mark.parametrize(
    ("name", "provider", "said"),
    [
        ("a/b", "web", "web"), ("a/b", "rocm", "rocm"), ("vendor/Qwen-onnx-ryzenai-npu", "", "npu"),
        ("a/model-cuda-fp16-onnx", "", "cuda"), ("a/model-openvino-int4", "", "npu"),
    ],
)  # fmt: skip
def test_what_is_made_for_other_hardware_is_fetched_only_when_the_cpu_is_asked_for(
    hub: Hub, tmp_path: Path, name: str, provider: str, said: str
) -> None:
    hub.repos[name] = Repo(files(provider_options=[{provider: {}}] if provider else []))
    with pytest.raises(ModelNotFound, match=f"no variant runs on cpu; made for: {said}") as caught:
        plan_pull(name, tmp_path)
    assert "`provider=cpu`" in caught.value.hint
    assert hub.of("cdn") == []
    plan = plan_pull(name, tmp_path, VariantWish(on_cpu=True))
    assert said in plan.obstacles[0].text
    assert plan.obstacles[0].lifted_by == ("`provider=cpu`",)
    run_pull(plan, tmp_path)


def test_damage_of_an_installed_model_names_its_repair(hub: Hub) -> None:
    hub.repos["a/b"] = Repo(files())
    assert lmsupply("pull", "-q", "a/b").code == 0
    path = Path(lmsupply("show", "a/b", "--json").json["path"])
    (path / "model.onnx.data").unlink()
    result = lmsupply("run", "-m", "a/b", "hello")
    assert result.code == 1
    assert "model.onnx.data is missing" in result.err
    assert "hint: lmsupply verify --repair a/b" in result.err
    assert lmsupply("verify", "--repair", "a/b").code == 0
    assert lmsupply("run", "-m", "a/b", "--max-tokens", "2", "hello").code == 0


def test_a_folder_whose_weights_lie_outside_is_not_added(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name, data in files().items():
        (folder / name).write_bytes(
            data.replace(b"model.onnx.data", b"../model.onnx.d") if name == "model.onnx" else data
        )
    (tmp_path / "model.onnx.d").write_bytes(files()["model.onnx.data"])
    result = lmsupply("add", str(folder), "--alias", "mine")
    assert result.code == 1
    assert "names weights outside its folder" in result.err


def test_what_is_incomplete_is_not_installed(hub: Hub, tmp_path: Path) -> None:
    content = files()
    hub.repos["a/b"] = Repo(content | {"model.onnx.data": content["model.onnx.data"][:5000]})
    with pytest.raises(ModelFilesError, match="not usable"):
        run_pull(plan_pull("a/b", tmp_path), tmp_path)
