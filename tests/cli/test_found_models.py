"""Models in the folders of other programs: each runs by the name that the list shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.cli import lmsupply
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
