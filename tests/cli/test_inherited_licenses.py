"""The license of a model is that of its weights, whatever name, copy or form they are imported in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Result, lmsupply
from support.hub import Hub, Repo, local_hub
from support.tiny_imports import repo_files, write_tiny_gguf, write_tiny_safetensors

SHORT = ("--max-tokens", "2")
RULE = {"LMSUPPLY_ALLOWED_TIERS": "permissive"}
COMMIT = "a" * 40
CATALOGUE = "elbruno/Qwen2.5-3B-Instruct-onnx"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The repos say llama3.2, their files MIT."""
    file = write_tiny_gguf(tmp_path / "made" / "m.gguf", metadata={"general.license": "mit"})
    folder = write_tiny_safetensors(tmp_path / "tuned")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    with local_hub() as hub:
        hub.repos["a/pik"] = Repo({"m.gguf": file.read_bytes()}, license="llama3.2")
        hub.repos["a/tuned"] = Repo(repo_files(folder), license="llama3.2")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def kept(name: str) -> Path:
    (path,) = (Path(os.environ["LMSUPPLY_HOME"]) / "cache").glob(f"models--*/snapshots/*/{name}")
    return path


def license_of(name: str) -> str:
    return str(lmsupply("show", name, "--json").json["license"]["id"])


def refused(*arguments: str | Path) -> Result:
    result = lmsupply(*arguments, **RULE)
    assert (result.code, result.out) == (5, ""), result
    return result


def test_a_file_that_a_pull_kept_has_the_license_of_its_repo(hub: Hub, tmp_path: Path) -> None:
    assert lmsupply("pull", "a/pik", "--accept-license", "--keep-source").code == 0
    file = kept("m.gguf")
    link, copy = tmp_path / "link.gguf", Path(shutil.copyfile(file, tmp_path / "copy.gguf"))
    link.symlink_to(file)
    for at, place in enumerate((file, link, copy)):
        assert "Llama-3.2 (conditional)" in refused("add", place, "--name", f"mine{at}").err
        refused("add", place, "--name", f"mine{at}", "--precision", "fp32")
        refused("convert", place, "--out", tmp_path / "out")
        assert lmsupply("add", place, "--name", f"mine{at}").code == 0
        refused("run", "-m", f"mine{at}", "hi", *SHORT)
        assert license_of(f"mine{at}") == "Llama-3.2"
    assert not (tmp_path / "out").exists()
    assert lmsupply("run", "-m", "mine0", "hi", *SHORT).code == 0
    dry = lmsupply("convert", copy, "--out", tmp_path / "out", "--dry-run", "--json").json["import"]
    assert dry["license"]["id"] == "Llama-3.2"


def test_an_import_keeps_its_license_when_the_model_it_has_it_from_is_removed(hub: Hub, tmp_path: Path) -> None:
    assert lmsupply("pull", "a/pik", "--accept-license", "--keep-source").code == 0
    copy = Path(shutil.copyfile(kept("m.gguf"), tmp_path / "copy.gguf"))
    assert lmsupply("add", copy, "--name", "mine").code == 0
    assert lmsupply("rm", "-y", "a/pik").code == 0
    (data,) = (Path(os.environ["LMSUPPLY_HOME"]) / "cache").glob(".lmsupply/imported/*/model.onnx.data")
    data.write_bytes(b"damaged")
    assert lmsupply("verify", "mine", "--repair").code == 0
    assert license_of("mine") == "Llama-3.2"
    again = tmp_path / "again.gguf"
    copy.rename(again)
    for words in (("--name", "mine"), ("--name", "other"), ("--name", "more", "--precision", "fp32")):
        assert lmsupply("add", again, *words).code == 0
        assert license_of(words[1]) == "Llama-3.2"
    assert lmsupply("rm", "-y", "mine", "other").code == 0
    refused("run", "-m", "more", "hi", *SHORT)


def test_weights_are_known_among_other_files(hub: Hub, tmp_path: Path) -> None:
    """A copy whose config is not the same to the byte is of the same weights."""
    assert lmsupply("pull", "a/tuned", "--accept-license").code == 0
    folder = tmp_path / "tuned"
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    refused("add", folder)
    assert lmsupply("add", folder).code == 0
    assert license_of("tuned") == "Llama-3.2"
    write_tiny_safetensors(tmp_path / "other", seed=1)
    shutil.copyfile(folder / "README.md", tmp_path / "other" / "README.md")
    assert lmsupply("add", tmp_path / "other", **RULE).code == 0, "other weights"


def test_files_that_are_kept_without_a_model_have_the_license_of_their_repo(hub: Hub, tmp_path: Path) -> None:
    command = ("convert", "a/pik", "--accept-license", "--keep-source", "--out", tmp_path / "out")
    assert lmsupply(*command).code == 0
    refused("run", kept("m.gguf"), "hi", *SHORT)


def test_a_cache_says_whose_files_they_are(hub: Hub, tmp_path: Path) -> None:
    def put(repo: str, seed: int) -> Path:
        home = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        blob = write_tiny_gguf(home / "blobs" / "0123", metadata={"general.license": "mit"}, seed=seed)
        link = home / "snapshots" / COMMIT / "m.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
        return link

    lmsupply("pull", "a/pik", "--accept-license")
    for seed, (repo, license) in enumerate({"a/pik": "Llama-3.2", CATALOGUE: "Qwen-Research"}.items(), 1):
        link = put(repo, seed)
        for path in (link, link.resolve()):
            assert license in refused("add", path).err
    assert lmsupply("add", put("some/other", 5), "--name", "other", **RULE).code == 0, "a repo that nobody knows"


def test_a_file_that_states_nothing_has_the_license_that_is_known(hub: Hub, tmp_path: Path) -> None:
    file = write_tiny_gguf(tmp_path / "silent.gguf", metadata={"general.license": None}, seed=3)
    hub.repos["a/silent"] = Repo({"silent.gguf": file.read_bytes()}, license="apache-2.0")
    assert lmsupply("add", file, "--dry-run", "--json").json["import"]["license"]["id"] == "unknown"
    assert lmsupply("pull", "a/silent").code == 0
    assert lmsupply("add", file, "--name", "mine", **RULE).code == 0
    assert license_of("mine") == "Apache-2.0"
