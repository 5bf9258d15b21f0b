from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lmsupply_cli.catalogue.entry import CatalogueEntry
from lmsupply_cli.catalogue.lookup import closest, forgiving_entry, read_catalogue
from lmsupply_cli.errors import ModelNotFound, ModelNotInstalled
from lmsupply_cli.loading.recommend import expected_variant
from lmsupply_cli.store.layout import manifests_dir
from lmsupply_cli.store.locate import (
    DefaultModel,
    RepoRef,
    default_installed,
    installed_models,
    is_ref,
    locate,
    parse_repo,
)
from lmsupply_cli.store.manifest import FileRecord, Manifest, mark_used, read_manifests, read_records, write_manifest

PHI = Manifest(
    ref="phi-3.5", repo="microsoft/Phi-3.5-mini-instruct-onnx", revision="main", commit="a" * 40, variant="cpu/x-int4",
    snapshot=f"models--microsoft--Phi-3.5-mini-instruct-onnx/snapshots/{'a' * 40}",
    folder=f"models--microsoft--Phi-3.5-mini-instruct-onnx/snapshots/{'a' * 40}/cpu/x-int4",
    license="MIT", tier="permissive", files={"f": FileRecord(3, "")}, pulled="2026-01-01",
)  # fmt: skip
TINY = replace(
    PHI, ref="me/tiny", repo="me/tiny", variant="", snapshot=f"models--me--tiny/snapshots/{'a' * 40}",
    folder=f"models--me--tiny/snapshots/{'a' * 40}",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for manifest in (PHI, TINY):
        (tmp_path / manifest.folder).mkdir(parents=True)
        write_manifest(tmp_path, manifest)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("a/b", RepoRef("a/b")),
        ("a/b@main", RepoRef("a/b", "main")),
        ("a/b@v1.0:cpu", RepoRef("a/b", "v1.0", "cpu")),
        ("a/b:gpu/gpu-int4", RepoRef("a/b", None, "gpu/gpu-int4")),
        ("a/b:my cpu model", RepoRef("a/b", None, "my cpu model")),
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
        PHI.repo,
        f"{PHI.repo}@aaaa",
        f"{PHI.repo}:int4",
    ):
        assert locate(name, root).path == root / PHI.folder
    assert locate("phi-3.5", root).precision == "int4"
    assert locate("me/tiny", root).license.id == "MIT"


def test_what_is_not_there(root: Path) -> None:
    for name in ("qwen3-4b", "other/repo", f"{PHI.repo}@bbbb", f"{PHI.repo}:gpu"):
        with pytest.raises(ModelNotInstalled):
            locate(name, root)
    with pytest.raises(ModelNotFound) as caught:
        locate("phi-3.5-min", root)
    assert caught.value.hint == "did you mean phi-3.5-mini?"
    with pytest.raises(ModelNotFound, match="no such folder"):
        locate("./nowhere", root)


def test_what_may_be_a_model(root: Path, toy: Path) -> None:
    assert all(is_ref(name, root) for name in ("guide", "Phi-4", "role:fast", "a/b", "me/tiny", str(toy)))
    assert not any(is_ref(name, root) for name in ("small", "tell me", "fast", "what?", "phi"))


def test_no_manifest_no_model(root: Path) -> None:
    assert [m.ref for m in installed_models(root)] == ["me/tiny", "phi-3.5"]
    (root / PHI.folder).rmdir()
    assert [m.ref for m in installed_models(root)] == ["me/tiny"]
    assert default_installed(root / "empty") is None


def test_the_default_is_the_only_model_then_the_last_used(root: Path) -> None:
    first = default_installed(root)
    assert first is not None
    assert first.reason == "the model installed first"
    mark_used(root, TINY.key)
    assert default_installed(root) == DefaultModel(locate("me/tiny", root), "the model used last")
    (root / PHI.folder).rmdir()
    assert default_installed(root) == DefaultModel(locate("me/tiny", root), "the only installed model")


DAMAGED = {
    "no JSON": b"{",
    "binary": bytes(range(256)),
    "no object": b"[1]",
    "deeply nested": b"[" * 5000,
    "newer": json.dumps({"schema": 99}).encode(),
    **{
        f"{key}={value!r}"[:60]: json.dumps({"schema": 1, **asdict(PHI)} | {key: value}).encode()
        for key, value in [
            ("snapshot", "../../elsewhere"),
            ("snapshot", "/etc"),
            ("folder", "models--other--repo/snapshots/" + "a" * 40),
            ("repo", "../.."),
            ("repo", "a--b/c"),
            ("repo", 5),
            ("commit", "../../.."),
            ("commit", "A" * 40),
            ("variant", "../x"),
            ("variant", None),
            ("tier", "free"),
            ("files", ["a"]),
            ("files", {"../../.bashrc": {"size_bytes": 1, "digest": ""}}),
            ("files", {"/etc/passwd": {"size_bytes": 1, "digest": ""}}),
            ("files", {"a": {"size_bytes": "1", "digest": ""}}),
            ("files", {"a": {"size_bytes": -1, "digest": ""}}),
            ("files", {"a": {"size_bytes": True, "digest": ""}}),
            ("files", {"a": {"size_bytes": 1, "digest": "sha256:../x"}}),
            ("files", {"a": None}),
        ]
    },
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=list(DAMAGED))
def test_a_record_that_cannot_be_used_is_skipped_and_named(root: Path, data: bytes) -> None:
    bad = manifests_dir(root) / f"{PHI.key}.json"
    bad.write_bytes(data)
    records = read_records(root)
    assert [m.ref for m in records.manifests] == ["me/tiny"]
    (said,) = records.skipped
    assert str(bad) in said
    assert locate("me/tiny", root).path == root / TINY.folder


def test_a_record_of_schema_1_is_read(root: Path) -> None:
    old = {"schema": 1, **asdict(PHI)}
    old["licence"] = old.pop("license")
    (manifests_dir(root) / f"{PHI.key}.json").write_text(json.dumps(old))
    assert PHI in read_manifests(root)


def test_a_record_under_another_name_is_none(root: Path) -> None:
    """A copy of a record must not remove the files of the model that it was copied from."""
    path = manifests_dir(root) / f"{PHI.key}.json"
    path.rename(path.with_name("copy.json"))
    assert [m.ref for m in read_manifests(root)] == ["me/tiny"]


def test_lookup_forgives() -> None:
    for name in ("phi3.5", "Phi-3.5-mini", "PHI_3_5", "qwen3_4B", "Llama 3.2 1B"):
        assert forgiving_entry(name) is not None
    assert forgiving_entry("phi") is None
    assert closest("phi-3.55") == "phi-3.5"


@pytest.mark.parametrize("entry", read_catalogue()[1:], ids=lambda entry: entry.ref)
def test_every_row_of_the_catalogue_is_sound(entry: CatalogueEntry) -> None:
    assert parse_repo(entry.repo)
    assert entry.ref == entry.ref.lower()
    assert entry.license.tier in ("permissive", "conditional", "research")
    assert entry.license.url.startswith("https://")
    assert entry.license.tier == "permissive" or entry.license.restrictions
    assert 0.1 < entry.parameters < 100
    assert entry.context_length >= 4096
    assert entry.cache_bytes(1, bytes_each=2)
    assert entry.revision is None or len(entry.revision) == 40
    assert entry.prompt_format in [
        "phi3",
        "phi4-mini",
        "phi4",
        "llama3",
        "chatml",
        "qwen",
        "mistral-v1",
        "gemma",
        "deepseek-r1",
        "harmony",
    ]
    assert entry.variants
    assert all(folder.startswith(entry.folder) for folder in entry.variants)
    assert all(size == 0 or size > 300_000_000 for size in entry.variants.values())
    expected = expected_variant(entry)
    assert expected is not None
    assert expected.chosen.device in ("cpu", "")


def test_names_of_the_catalogue_are_unique() -> None:
    entries = read_catalogue()
    names = [name for e in entries for name in (e.ref, *e.aliases)]
    assert len(names) == len(set(names))
    assert entries[0].ref == "guide"
