"""Damaged imports are imported again from where their files are now."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.tiny_imports import write_tiny_gguf, write_tiny_safetensors


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "here"
    home.mkdir()
    monkeypatch.chdir(home)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("HF_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS"):
        monkeypatch.setenv(name, str(home / name))
    return home


def put_into_ollama(models: Path, name: str, tag: str, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    blob = models / "blobs" / f"sha256-{digest}"
    manifest = models / "manifests" / "registry.ollama.ai" / "library" / name / tag
    for file in (blob, manifest):
        file.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(data)}
    manifest.write_text(json.dumps({"layers": [layer]}))


def damage(name: str) -> None:
    data = Path(lmsupply("show", name, "--json").json["path"]) / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert lmsupply("verify", name).code == 1


def test_models_of_other_programs_are_repaired(here: Path) -> None:
    put_into_ollama(here / "OLLAMA_MODELS", "Tiny", "1b", write_tiny_gguf(here / "a.gguf").read_bytes())
    write_tiny_gguf(here / ".lmstudio" / "models" / "Own" / "Repo" / "x-Q8_0.gguf", "Q8_0")
    write_tiny_safetensors(here / "HF_HUB_CACHE" / "models--some--Model" / "snapshots" / ("a" * 40))
    names = ["hf:some/Model", "lmstudio:Own/Repo:q8_0", "ollama:Tiny:1b"]
    assert sorted(lmsupply("models", "--found", "-q").out.split()) == names
    for name in names:
        assert lmsupply("add", name).code == 0
        damage(name)
    repaired = lmsupply("verify", "--repair")
    assert (repaired.code, repaired.out.count(": ok (")) == (0, 3)
    assert all(f"importing {name} again from {here}" in repaired.err for name in names)
    assert lmsupply("models", "--installed", "-q").out.split()[1:] == names


def test_a_file_that_moved_is_the_source_from_now_on(here: Path) -> None:
    file = write_tiny_gguf(here / "one.gguf")
    assert lmsupply("add", "one.gguf", "mine").code == 0
    copy = here / "copy.gguf"
    copy.write_bytes(file.read_bytes())
    assert lmsupply("add", "copy.gguf").err.startswith("mine is already added: ")
    assert "; its source is now" not in lmsupply("add", "copy.gguf").err
    damage("mine")
    assert f"importing mine again from {file}\n" in lmsupply("verify", "--repair", "mine").err, "while it is there"
    moved = here / "moved.gguf"
    file.rename(moved)
    assert f"note: mine: the source {file} is gone\n" in lmsupply("verify").err
    added = lmsupply("add", "moved.gguf")
    assert added.err.startswith("mine is already added: ")
    assert added.err.endswith(f"; its source is now {moved}\n")
    assert lmsupply("verify").err == ""
    damage("mine")
    repaired = lmsupply("verify", "--repair", "mine")
    assert (repaired.code, f"importing mine again from {moved}\n" in repaired.err) == (0, True)


@pytest.mark.parametrize(
    "command", [("run", "--show-prompt", "-m", "./moved.gguf", "hi"), ("add", "moved.gguf", "mine")]
)
def test_a_file_that_moved_may_be_run_or_named_again(here: Path, command: tuple[str, ...]) -> None:
    write_tiny_gguf(here / "one.gguf").rename(here / "two.gguf")
    assert lmsupply("add", "two.gguf", "mine").code == 0
    (here / "two.gguf").rename(here / "moved.gguf")
    assert lmsupply(*command).code == 0
    assert lmsupply("models", "--installed", "-q").out.split()[1:] == ["mine"]
    assert lmsupply("verify").err == ""


def test_a_name_that_belongs_to_another_model_stays_its_own(here: Path) -> None:
    write_tiny_gguf(here / "one.gguf")
    write_tiny_gguf(here / "two.gguf", seed=1)
    lmsupply("add", "one.gguf", "mine")
    taken = lmsupply("add", "two.gguf", "mine")
    assert (taken.code, "there is already a model called mine" in taken.err) == (2, True)
    odd = lmsupply("add", "two.gguf", "ollama:mine")
    assert (odd.code, "is not a valid model name" in odd.err) == (2, True)


def test_an_import_by_an_older_version_is_noted(here: Path) -> None:
    write_tiny_gguf(here / "one.gguf")
    assert lmsupply("add", "one.gguf").code == 0
    assert lmsupply("verify").err == ""
    (record,) = (Path(os.environ["LMSUPPLY_HOME"]) / "cache" / ".lmsupply" / "manifests").iterdir()
    value = json.loads(record.read_text())
    value["source"]["importer"] -= 1
    record.write_text(json.dumps(value))
    note = (
        "an older lmsupply imported it; to benefit from the newer one, remove it and import it again with lmsupply add"
    )
    checked = lmsupply("verify")
    assert (checked.code, checked.err) == (0, f"note: one: {note}\n")
    assert lmsupply("verify", "--json").json["models"][0]["notes"] == [note]
    lmsupply("rm", "-y", "one")
    lmsupply("add", "one.gguf")
    assert lmsupply("verify").err == ""
