"""Models in the folders of other programs: each runs by the name that the list shows."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.hub import Repo, local_hub
from support.tiny_imports import write_tiny_gguf, write_tiny_safetensors

SHORT = ("--max-tokens", "2")
COMMIT = "a" * 40


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a person with other programs."""
    home = tmp_path / "user"
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "ollama"))
    monkeypatch.setenv("LLAMA_CACHE", str(home / "llama"))
    return home


def test_safetensors_of_the_hugging_face_cache_are_listed_and_run(user: Path) -> None:
    folder = write_tiny_safetensors(user / "hub" / "models--some--Model" / "snapshots" / COMMIT)
    (row,) = lmsupply("models", "--found", "--json").json["models"]
    assert (row["ref"], row["format"], row["installed"]) == ("hf:some/Model", "safetensors", False)
    assert row["path"] == str(folder)
    shown = lmsupply("models", "--found").out.splitlines()[1].split()
    assert shown[:5] == ["hf:some/Model", "Hugging", "Face", "cache", shown[4]]
    assert " ".join(shown).endswith("safetensors imported on first use")
    first = lmsupply("run", "hf:some/Model", "hi", *SHORT)
    assert (first.code, first.err.splitlines()[0].startswith("importing hf:some/Model: int4 (")) == (0, True)
    assert lmsupply("models", "--found").out.splitlines()[1].endswith("safetensors  imported")
    assert lmsupply("models", "--found", "--json").json["models"][0]["installed"]
    assert lmsupply("run", "-m", "hf:some/Model", "--show-prompt", "hi").err == ""
    assert lmsupply("rm", "-y", "hf:some/Model").code == 0
    assert lmsupply("convert", "hf:some/Model", "--out", user / "out").code == 0


def test_a_name_with_spaces_runs_as_it_is_listed(user: Path) -> None:
    write_tiny_gguf(user / "llama" / "my model.gguf")
    name = lmsupply("models", "--found", "-q").out.strip()
    assert name == "llamacpp:my-model"
    assert lmsupply("run", name, "hi", *SHORT).code == 0
    assert lmsupply("models", "--installed", "-q").out.split()[1:] == [name]
    assert lmsupply("rm", "-y", name).code == 0
    assert (user / "llama" / "my model.gguf").is_file()
    shutil.rmtree(user / "llama")
    assert lmsupply("run", name, "hi").err.startswith(f"error: there is no {name} on this machine\n")


def rows_of() -> dict[str, str | None]:
    return {row["ref"]: row["imported_as"] for row in lmsupply("models", "--found", "--json").json["models"]}


def folders() -> list[str]:
    return [path.name for path in (Path(os.environ["LMSUPPLY_HOME"]) / "cache" / ".lmsupply" / "imported").iterdir()]


def test_contents_that_were_imported_from_elsewhere_are_known(user: Path) -> None:
    data = write_tiny_gguf(user / "mine.gguf").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    blobs, hub = user / "ollama" / "blobs", user / "hub" / "models--a--b"
    for folder in (blobs, hub / "blobs", hub / "snapshots" / COMMIT, user / "llama"):
        folder.mkdir(parents=True)
    for blob in (blobs / f"sha256-{digest}", hub / "blobs" / digest, user / "llama" / "copy.gguf"):
        blob.write_bytes(data)
    (hub / "snapshots" / COMMIT / "b-Q4_0.gguf").symlink_to(hub / "blobs" / digest)
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(data)}]
    manifest = user / "ollama" / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "1b"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"layers": layers}))
    assert set(rows_of().values()) == {None}

    assert lmsupply("add", user / "mine.gguf", "mine").code == 0
    assert rows_of() == {"hf:a/b:q4_0": "mine", "ollama:tiny:1b": "mine", "llamacpp:copy": None}
    uses = {line.split()[0]: line for line in lmsupply("models", "--found").out.splitlines()}
    assert uses["ollama:tiny:1b"].endswith("  imported as mine")
    assert uses["llamacpp:copy"].endswith("  imported on first use"), "it was not read yet"
    for name in (user / "llama" / "copy.gguf", "ollama:tiny:1b", "llamacpp:copy"):
        ran = lmsupply("run", name, "hi", *SHORT)
        assert (ran.code, "importing" in ran.err) == (0, False)
    assert len(folders()) == 1, "the contents are imported once"
    assert rows_of()["llamacpp:copy"] in ("mine", "llamacpp:copy")


def test_a_model_that_its_program_replaced_is_not_imported(user: Path) -> None:
    file = write_tiny_gguf(user / "llama" / "tiny.gguf")
    assert lmsupply("run", "llamacpp:tiny", "hi", *SHORT).code == 0
    assert rows_of() == {"llamacpp:tiny": "llamacpp:tiny"}
    write_tiny_gguf(file, seed=1)
    assert rows_of() == {"llamacpp:tiny": None}


def test_a_file_that_was_pulled_before_is_not_imported_again(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_tiny_gguf(user / "llama" / "copy.gguf")
    with local_hub() as hub:
        hub.repos["a/b-GGUF"] = Repo({"b-Q4_0.gguf": file.read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert lmsupply("pull", "a/b-GGUF").code == 0
    for name in (file, "llamacpp:copy"):
        ran = lmsupply("run", name, "hi", *SHORT)
        assert (ran.code, "importing" in ran.err) == (0, False)
    assert len(folders()) == 1
