"""A model folder is untrusted input: every broken or hostile one gets one clear line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli import load
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.errors import EngineError, ModelFilesError, ModelNotFound, ProviderUnavailable, UntrustedModelFiles

CONFIG = "genai_config.json"


@pytest.fixture
def folder(tmp_path: Path, toy: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "model"))


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    edit(config)
    (folder / CONFIG).write_text(json.dumps(config))


HOSTILE: list[Callable[[dict[str, Any]], Any]] = [
    lambda c: c["model"]["decoder"]["session_options"].update(custom_ops_library="ops.so"),
    lambda c: c["model"]["decoder"]["session_options"].update(custom_ops_library="ops"),
    lambda c: c["model"]["decoder"]["session_options"].update(provider_options=[{"cuda": {"library_path": "x"}}]),
    lambda c: c["model"]["decoder"]["session_options"].update(
        provider_options=[{"WebGPU": {"webgpuDevice": "140000"}}]
    ),
    lambda c: c["model"]["decoder"]["session_options"].update(provider_options=[{"cpu": {"file": "x.dll"}}]),
    lambda c: c["model"]["decoder"].update(filename="/etc/passwd"),
    lambda c: c["model"]["decoder"].update(filename="../model.onnx"),
    lambda c: c["model"]["decoder"].update(filename="a/../../model.onnx"),
    lambda c: c["model"]["decoder"].update(filename="C:\\models\\model.onnx"),
    lambda c: c["model"]["decoder"].update(filename="..\\model.onnx"),
    lambda c: c["model"].update(vision={"filename": "~/vision.onnx"}),
    lambda c: c["model"].update(draft={"filename": "file:///x.onnx"}),
    lambda c: c.update(plugins=[{"path": "here.py"}]),
]


@pytest.mark.parametrize("edit", HOSTILE)
def test_a_folder_that_loads_or_leaves_is_refused(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    change(folder, edit)
    with pytest.raises(UntrustedModelFiles) as caught:
        load(folder)
    assert "\n" not in caught.value.message
    assert "`trust_model_files`" in caught.value.hint


def test_trust_lifts_the_check(folder: Path) -> None:
    change(folder, lambda c: c["model"].update(custom_ops_library="ops.so"))
    assert open_folder(folder, trust=True).model["type"] == "llama"


def test_no_code_of_a_folder_is_run(folder: Path) -> None:
    marker = folder.parent / "ran"
    (folder / "modeling_toy.py").write_text(f"open({str(marker)!r}, 'w')")
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (folder / "chat_template.jinja").write_text(template)
    with load(folder) as model:
        assert "template fails" in model.notices[0].text
        model.generate("x", max_tokens=1)
    assert not marker.exists()


def broken(name: str, data: bytes | None) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)

    return act


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n"
BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (broken(CONFIG, None), "contains no genai_config.json"),
    (broken(CONFIG, b"{"), "damaged"),
    (broken(CONFIG, b"\xff\xfe\x00"), "damaged"),
    (broken(CONFIG, b"[]"), "no model.type"),
    (broken(CONFIG, b'{"model": {"type": "llama"}}'), "context_length"),
    (broken(CONFIG, b""), "empty"),
    (broken(CONFIG, LFS), "LFS pointer"),
    (broken("model.onnx", None), "model.onnx is missing"),
    (broken("model.onnx", LFS), "LFS pointer"),
    (broken("model.onnx", b""), "empty"),
    (broken("model.onnx", b"not an onnx file"), "cannot load"),
    (broken("tokenizer.json", b"{ broken"), "damaged"),
    (broken("tokenizer.json", b"\x80\x81\x82"), "damaged"),
    (broken("tokenizer.json", b"{}"), "cannot load"),
    (lambda f: change(f, lambda c: c["model"].update(type="foobar")), "does not know this kind of model"),
    (lambda f: change(f, lambda c: c["model"].update(foobar=1)), "does not know this key"),
    (lambda f: change(f, lambda c: c["model"].pop("decoder")), "names no model file"),
    (lambda f: change(f, lambda c: c["model"].update(decoder=3)), "decoder is not an object"),
]


@pytest.mark.parametrize(("act", "text"), BROKEN)
def test_a_broken_folder_gets_one_clear_line(
    folder: Path, act: Callable[[Path], None], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    act(folder)
    with pytest.raises(EngineError) as caught:
        load(folder)
    error = caught.value
    assert text in error.message
    assert "\n" not in error.message
    assert len(error.message) < 400
    assert error.exit_code == 1
    assert error.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", [None, b"", b"\0" * 100])
def test_missing_or_short_external_data(tmp_path: Path, guide: Path, data: bytes | None) -> None:
    folder = Path(shutil.copytree(guide, tmp_path / "g"))
    broken("model.onnx.data", data)(folder)
    with pytest.raises(ModelFilesError) as caught:
        load(folder)
    assert "\n" not in caught.value.message


def test_truncated_graph(tmp_path: Path, guide: Path) -> None:
    folder = Path(shutil.copytree(guide, tmp_path / "g"))
    whole = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFilesError):
        load(folder)


@pytest.mark.parametrize(("key", "value"), [("head_size", 16), ("inputs", {"input_ids": "nope"})])
def test_a_config_that_does_not_match_its_graph(
    tmp_path: Path, guide: Path, key: str, value: object, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(guide, tmp_path / "g"))
    change(folder, lambda c: c["model"]["decoder"].update({key: value}))
    with load(folder) as model, pytest.raises(EngineError, match="the engine failed") as caught:
        model.generate("hello")
    assert "\n" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such folder"):
        open_folder(tmp_path / "none")


@pytest.mark.parametrize(
    ("provider", "said"),
    [("cuda", "does not support CUDA"), ("dml", "does not support DirectML"), ("webgpu", "webgpu")],
)
def test_a_provider_that_is_not_there_is_never_replaced(toy: Path, provider: str, said: str) -> None:
    with pytest.raises(ProviderUnavailable, match=said) as caught:
        load(toy, provider=provider)
    assert "cpu" in caught.value.hint or "pip install" in caught.value.hint


def test_a_folder_for_a_provider_that_is_not_there(folder: Path) -> None:
    change(folder, lambda c: c["model"]["decoder"]["session_options"].update(provider_options=[{"cuda": {}}]))
    with pytest.raises(ProviderUnavailable, match="does not support"):
        load(folder)
    with load(folder, provider="cpu") as model:
        assert model.info.provider == "cpu"
