from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lmsupply_cli.catalogue.entry import read_catalogue
from lmsupply_cli.errors import LmsupplyError, ModelNotFound, ModelNotInstalled
from lmsupply_cli.store.locate import RepoRef, best_installed, installed_models, is_ref, locate, parse_repo
from lmsupply_cli.store.manifest import Manifest, manifests_dir, read_manifests, write_manifest

PHI = Manifest(
    "phi-3.5",
    "microsoft/Phi-3.5-mini-instruct-onnx",
    "a" * 40,
    "cpu/x-int4",
    "phi",
    "MIT",
    "permissive",
    {"f": 3},
    "2026-01-01",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for manifest in (PHI, replace(PHI, ref="me/tiny", repo="me/tiny", variant="", folder="tiny")):
        (tmp_path / manifest.folder).mkdir()
        write_manifest(tmp_path, manifest)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("a/b", RepoRef("a/b")),
        ("a/b@main", RepoRef("a/b", "main")),
        ("a/b@v1.0:cpu", RepoRef("a/b", "v1.0", "cpu")),
        ("a/b:gpu/gpu-int4", RepoRef("a/b", None, "gpu/gpu-int4")),
        ("word", None),
        ("a b/c", None),
        ("./a/b", None),
        ("a/b/c", None),
    ],
)
def test_repo_refs(name: str, ref: RepoRef | None) -> None:
    assert parse_repo(name) == ref


def test_where_names_lead(root: Path, toy: Path) -> None:
    assert locate("GUIDE", root).ref == "guide"
    assert locate(str(toy), root).path == toy
    for name in (
        "phi-3.5",
        "PHI-3.5",
        "phi-3.5-mini",
        "role:default",
        PHI.repo,
        f"{PHI.repo}@aaaa",
        f"{PHI.repo}:int4",
    ):
        assert locate(name, root).path == root / "phi"
    assert locate("phi-3.5", root).precision == "int4"
    assert locate("me/tiny", root).licence.id == "MIT"


def test_what_is_not_there(root: Path) -> None:
    for name in ("qwen3-4b", "other/repo", f"{PHI.repo}@bbbb", f"{PHI.repo}:gpu"):
        with pytest.raises(ModelNotInstalled):
            locate(name, root)
    with pytest.raises(ModelNotFound) as caught:
        locate("phi35", root)
    assert caught.value.hint == "did you mean phi-3.5?"
    with pytest.raises(ModelNotFound, match="no such folder"):
        locate("./nowhere", root)


def test_what_may_be_a_model(root: Path, toy: Path) -> None:
    assert all(is_ref(name, root) for name in ("guide", "Phi-4", "role:fast", "a/b", "me/tiny", str(toy)))
    assert not any(is_ref(name, root) for name in ("small", "tell me", "fast", "what?", "phi"))


def test_no_manifest_no_model(root: Path) -> None:
    assert [m.ref for m in installed_models(root)] == ["me/tiny", "phi-3.5"]
    (root / "phi").rmdir()
    assert [m.ref for m in installed_models(root)] == ["me/tiny"]
    assert best_installed(root / "empty") is None


def test_the_largest_installed_model_is_the_best(root: Path) -> None:
    found = best_installed(root)
    assert found is not None
    assert found.ref == "phi-3.5"


def test_a_damaged_manifest_is_no_model_and_a_newer_one_is_said(root: Path) -> None:
    (manifests_dir(root) / "x.json").write_text("{")
    assert len(read_manifests(root)) == 2
    (manifests_dir(root) / "y.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(LmsupplyError, match="newer lmsupply"):
        read_manifests(root)


def test_every_row_of_the_catalogue_is_sound() -> None:
    entries = read_catalogue()
    names = [name for e in entries for name in (e.ref, *e.aliases)]
    assert len(names) == len(set(names))
    assert entries[0].ref == "guide"
    for entry in entries[1:]:
        assert parse_repo(entry.repo)
        assert entry.ref == entry.ref.lower()
        assert entry.licence.tier in ("permissive", "conditional")
        assert entry.licence.url.startswith("https://")
        assert entry.licence.tier == "permissive" or entry.licence.restrictions
        assert entry.parameters > 0.1
        assert entry.context_length >= 4096
        assert entry.size_bytes is None or entry.size_bytes > 300_000_000
