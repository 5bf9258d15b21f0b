"""Models of other tools: which of several snapshots is meant, and what may not be read is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lmsupply_cli.errors import ModelNotInstalled
from lmsupply_cli.store.external import external_models, foundry_models
from lmsupply_cli.store.locate import locate

MODEL = Path(__file__).parent.parent / "models" / "toy"
OLD, NEW = "9" * 40, "1" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache with two snapshots of a repo, of which the one with the lower hash is the newer."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    home = tmp_path / "hf" / "hub" / "models--x--Two"
    for at, commit in enumerate((OLD, NEW)):
        snapshot = home / "snapshots" / commit
        shutil.copytree(MODEL, snapshot)
        os.utime(snapshot, (1_700_000_000 + at, 1_700_000_000 + at))
    (home / "blobs").mkdir()
    return home


def refer(cache: Path, **refs: str) -> None:
    (cache / "refs").mkdir(exist_ok=True)
    for name, commit in refs.items():
        (cache / "refs" / name).write_text(commit)


@pytest.mark.parametrize("name", ["x/two", "X/Two", "x/Two@main"])
def test_main_decides_among_snapshots(cache: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "store"
    assert locate(name, root).commit == NEW, "without refs it is the newest"
    refer(cache, main=OLD, dev=NEW)
    assert locate(name, root).commit == OLD
    refer(cache, main=NEW, dev=OLD)
    assert locate(name, root).commit == NEW
    assert locate("x/two@dev", root).commit == OLD
    assert locate(f"x/two@{OLD[:8]}", root).commit == OLD
    with pytest.raises(ModelNotInstalled):
        locate("x/two@v1", root)


def test_refs_that_cannot_be_read_say_nothing(cache: Path, tmp_path: Path) -> None:
    (cache / "refs" / "main").mkdir(parents=True)
    (cache / "refs" / "bad").write_bytes(b"\xff\xfe")
    assert locate("x/two", tmp_path / "store").commit == NEW


def test_a_cache_that_may_not_be_read_is_not_there(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, stat = os.scandir, Path.stat

    def refused(path: object = ".") -> object:
        if str(cache.parent) in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[type-var]

    def hidden(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if str(cache.parent) in str(self):
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "scandir", refused)
    monkeypatch.setattr(Path, "stat", hidden)
    assert external_models(tmp_path / "store") == []


def test_the_cache_of_foundry_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    models = tmp_path / ".foundry" / "cache" / "models" / "Microsoft"
    shutil.copytree(MODEL, models / "Phi-4-mini-generic-cpu" / "v4")
    shutil.copytree(MODEL, models / "Phi-4-mini-generic-cpu" / "v5")
    (models / "broken").mkdir()
    (models / "broken" / "genai_config.json").write_text("{")
    (found,) = foundry_models()
    assert (found.ref, found.external, found.path.name) == ("Phi-4-mini-generic-cpu", True, "v5")
    assert found in external_models(tmp_path / "store")
    assert locate("phi-4-mini-generic-cpu", tmp_path / "store") == found
