"""Imports are installed whole or not at all, found again without reading their source, shared, verified and removed."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fuzz import mutated
from support.hub import Fault, Hub, Repo, local_hub
from support.killed import ForkServer, Job, convert, import_file, import_repo

from lmsupply_cli.errors import (
    FileError,
    HubError,
    ModelFilesError,
    ModelNotFound,
    NotImported,
    UsageError,
)
from lmsupply_cli.events import FileProgress, Notice, ProgressListener
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.hub.sources import SourceVariant
from lmsupply_cli.hub.tree import RepoTree
from lmsupply_cli.store import imports as imports_module
from lmsupply_cli.store.imports import NewImport, begin_import, check_name, find_import, name_for
from lmsupply_cli.store.leftovers import find_leftovers, free_leftovers
from lmsupply_cli.store.locate import at_path, default_installed, installed_models, is_ref, locate
from lmsupply_cli.store.manifest import (
    ImportForm,
    ImportSource,
    Manifest,
    SourceFile,
    read_manifests,
    read_records,
)
from lmsupply_cli.store.model_store import ModelStore
from lmsupply_cli.store.plan import PullPlan, SourcePlan
from lmsupply_cli.store.pull import SourceRules, plan_any, plan_pull
from lmsupply_cli.store.remove import carry_out, plan_removal
from lmsupply_cli.store.repair import plan_repair
from lmsupply_cli.store.source_paths import SourcePath, known_digests, read_digests, source_at
from lmsupply_cli.store.sources import fetch_source
from lmsupply_cli.store.verify import verify

WEIGHTS = b"GGUF" + bytes(range(256)) * 20
OTHER = b"GGUF" + bytes(range(255, -1, -1)) * 20
MOST_CALLS = 400


class Heard(ProgressListener):
    def __init__(self) -> None:
        self.read: list[FileProgress] = []
        self.notices: list[str] = []

    def file(self, progress: FileProgress) -> None:
        self.read.append(progress)

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice.text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "Tiny-Q4_K_M.gguf"
    path.write_bytes(WEIGHTS)
    return path


def source_of(path: Path) -> SourcePath:
    source = source_at(path)
    assert source
    return source


def new_import(root: Path, path: Path, name: str) -> NewImport:
    return NewImport(name, ImportSource("gguf", read_digests(root, [path]), "exact"))


def conversions(root: Path) -> int:
    log = root.parent / f"{root.name}.converted"
    return len(log.read_text().splitlines()) if log.exists() else 0


def strangers(root: Path) -> list[Path]:
    """Files that no installed model needs, apart from locks and what is known of sources."""
    needed = {path for m in read_manifests(root) for path in m.paths(root)}
    needed |= {root / ".lmsupply" / "manifests" / f"{m.key}.json" for m in read_manifests(root)}
    needed |= {root / ".lmsupply" / "digests.json"}
    return [path for path in root.rglob("*") if path.is_file() and path not in needed]


def installed(root: Path) -> list[Manifest]:
    """What is installed, once it is sure to be whole."""
    records = read_records(root)
    assert not records.skipped
    for manifest in records.manifests:
        assert verify(root, manifest).ok
    return list(records.manifests)


def test_an_import_is_a_model_of_ours(root: Path, gguf: Path) -> None:
    manifest = import_file(gguf, "tiny", root)
    assert read_manifests(root) == [manifest]
    assert not manifest.added
    assert manifest.source
    assert manifest.source.files == (
        SourceFile(str(gguf), len(WEIGHTS), manifest.source.files[0].digest, gguf.stat().st_mtime_ns),
    )
    assert "source.txt" in manifest.files
    assert verify(root, manifest).ok
    assert strangers(root) == []
    (model,) = installed_models(root)
    assert (model.ref, model.precision, model.external, model.was_pulled) == ("tiny", "int4", False, False)
    assert model.source == manifest.source
    assert locate("TINY", root) == model
    assert default_installed(root, lambda _: True) is not None
    assert find_leftovers(root).size_bytes == 0


@pytest.mark.parametrize("spelled", ["{gguf}", "./Tiny-Q4_K_M.gguf", "Tiny-Q4_K_M.gguf"])
def test_a_path_leads_to_its_import(root: Path, gguf: Path, spelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(gguf.parent)
    name = spelled.format(gguf=gguf)
    assert is_ref(name, root)
    with pytest.raises(NotImported) as caught:
        locate(name, root)
    assert (caught.value.source, caught.value.code, caught.value.exit_code) == (name, "not_imported", 3)
    manifest = import_file(gguf, "tiny", root)
    monkeypatch.setattr(imports_module, "read_digests", None)
    assert locate(name, root).key == manifest.key
    assert at_path(Path(name), root).key == manifest.key
    assert locate(name, root, precision="int4").key == manifest.key
    with pytest.raises(NotImported):
        locate(name, root, precision="int8")
    shutil.rmtree(root / manifest.folder)
    with pytest.raises(NotImported):
        locate(name, root)


def test_only_what_changed_is_read_again(root: Path, gguf: Path, tmp_path: Path) -> None:
    manifest = import_file(gguf, "tiny", root)

    def find(path: Path) -> tuple[Manifest | None, int]:
        heard = Heard()
        return find_import(root, [path], listener=heard), max((p.all_done_bytes for p in heard.read), default=0)

    (root / ".lmsupply" / "digests.json").unlink()
    assert find(gguf) == (manifest, 0), "the record knows it"
    os.utime(gguf, ns=(1, 1))
    with pytest.raises(NotImported):
        locate(str(gguf), root)
    assert find(gguf) == (manifest, len(WEIGHTS))
    assert find(gguf) == (manifest, 0)
    assert locate(str(gguf), root).key == manifest.key
    copy = tmp_path / "copy.gguf"
    shutil.copyfile(gguf, copy)
    assert find(copy) == (manifest, len(WEIGHTS)), "the same content elsewhere is the same model"
    assert find(copy) == (manifest, 0)
    copy.write_bytes(OTHER)
    assert find(copy) == (None, len(OTHER))
    assert find_import(root, [gguf], ImportForm("exact")) == manifest
    assert find_import(root, [gguf], ImportForm("int4", 32)) is None


def test_digests_that_cannot_be_kept_are_read_again(root: Path, gguf: Path) -> None:
    cache = root / ".lmsupply" / "digests.json"
    (expected,) = read_digests(root, [gguf])
    for damaged in (
        b"{",
        b"[1]",
        b"null",
        json.dumps({str(gguf): ["sha256:x", 1, 2]}).encode(),
        json.dumps({str(gguf): 5}).encode(),
    ):
        cache.write_bytes(damaged)
        assert known_digests(root, [gguf]) is None
        assert read_digests(root, [gguf]) == (expected,)
        assert known_digests(root, [gguf]) == (expected,)
    cache.unlink()
    cache.mkdir()
    assert read_digests(root, [gguf]) == (expected,)


def test_a_file_that_changes_while_it_is_read(root: Path, gguf: Path) -> None:
    class Writes(ProgressListener):
        def file(self, progress: FileProgress) -> None:
            gguf.write_bytes(OTHER + b"more")

    with pytest.raises(FileError, match="changed while it was being read"):
        read_digests(root, [gguf], listener=Writes())
    assert known_digests(root, [gguf]) is None
    with pytest.raises(FileError, match="missing"):
        read_digests(root, [gguf.with_name("nowhere.gguf")])


def test_two_names_share_a_folder_until_the_last_goes(root: Path, gguf: Path) -> None:
    one = import_file(gguf, "one", root)
    two = import_file(gguf, "two", root)
    assert conversions(root) == 1
    assert one.folder == two.folder
    assert [m.ref for m in installed(root)] == ["one", "two"]
    removal = plan_removal(root, [one])
    assert (removal.files, removal.freed_bytes) == ((), 0)
    assert set(removal.shared) == set(one.paths(root))
    carry_out(root, [one])
    assert installed(root) == [two]
    (root / two.folder / "made by the engine").write_bytes(b"x")
    assert carry_out(root, [two]).freed_bytes == two.size_bytes + 1
    assert strangers(root) == []
    assert not (root / ".lmsupply" / "imported").exists()


def test_forms_of_one_source_live_side_by_side(root: Path, gguf: Path) -> None:
    exact = import_file(gguf, "tiny", root)
    other = import_file(gguf, "tiny", root, block_size=64)
    assert conversions(root) == 2
    assert exact.folder != other.folder
    assert sorted(m.folder for m in installed(root)) == sorted([exact.folder, other.folder])
    carry_out(root, [other])
    assert installed(root) == [exact]


def test_names(root: Path, gguf: Path, tmp_path: Path) -> None:
    source = source_of(gguf)
    assert name_for(root, source) == "tiny-q4_k_m"
    import_file(gguf, "tiny-q4_k_m", root)
    assert name_for(root, source) == "tiny-q4_k_m"
    elsewhere = tmp_path / "elsewhere" / gguf.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(OTHER)
    assert name_for(root, source_of(elsewhere)) == "tiny-q4_k_m-2"
    assert check_name(root, "Mine", source_of(elsewhere)) == "mine"
    for name, said in (
        ("tiny-q4_k_m", "already a model"),
        ("phi-4-mini", "already a model"),
        ("a/b", "not a valid"),
        ("guide", "already a model"),
    ):
        with pytest.raises(UsageError, match=said):
            check_name(root, name, source_of(elsewhere))
    with pytest.raises(UsageError, match="already a model called tiny"):
        import_file(elsewhere, "tiny-q4_k_m", root)
    assert conversions(root) == 1


def test_a_name_that_is_taken_meanwhile(root: Path, gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(OTHER)

    def import_slowly() -> None:
        with begin_import(root, new_import(root, gguf, "mine"), needed_bytes=0) as staging:
            import_file(other, "mine", root)
            convert(gguf, staging)

    with pytest.raises(UsageError, match="already a model called mine"):
        import_slowly()
    assert [m.ref for m in installed(root)] == ["mine"]
    assert strangers(root) == []


def test_a_file_with_new_content_takes_the_name(root: Path, gguf: Path) -> None:
    old = import_file(gguf, "tiny", root)
    gguf.write_bytes(OTHER)
    new = import_file(gguf, "tiny", root)
    assert new.folder != old.folder
    assert installed(root) == [new]
    assert strangers(root) == []


def test_an_import_done_again_moves_every_name(root: Path, gguf: Path) -> None:
    one, two = import_file(gguf, "one", root), import_file(gguf, "two", root)
    (root / one.folder / "model.onnx").write_bytes(b"damaged")
    assert not verify(root, one).ok
    again = import_file(gguf, "one", root, again=True)
    assert conversions(root) == 2
    assert [(m.ref, m.folder) for m in installed(root)] == [("one", again.folder), ("two", again.folder)]
    assert again.folder != two.folder
    assert strangers(root) == []


@pytest.mark.parametrize("error", [ModelFilesError("unknown architecture"), KeyboardInterrupt()])
def test_an_import_that_fails_leaves_nothing(root: Path, gguf: Path, error: BaseException) -> None:
    def fail() -> None:
        with begin_import(root, new_import(root, gguf, "tiny"), needed_bytes=0) as staging:
            (staging.folder / "half").write_bytes(b"x")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert (installed(root), strangers(root), find_leftovers(root).any) == ([], [], False)


def test_an_import_that_is_no_model(root: Path, gguf: Path) -> None:
    def write_nothing() -> None:
        with begin_import(root, new_import(root, gguf, "tiny"), needed_bytes=0) as staging:
            imports_module.finish_import(staging, kinds={}, forms={})

    with pytest.raises(ModelFilesError, match="the import of tiny is not usable"):
        write_nothing()
    assert (installed(root), strangers(root)) == ([], [])


def test_a_disk_that_is_too_small(root: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = new_import(root, gguf, "tiny")
    monkeypatch.setattr(imports_module, "free_bytes", lambda _: 70_000_000)
    with (
        pytest.raises(FileError, match=r"importing tiny writes 7\.0 MB, but only 70\.0 MB is free"),
        begin_import(root, new, needed_bytes=7_000_000),
    ):
        pass
    assert strangers(root) == []


def test_a_source_that_changed_or_is_gone_is_a_note(root: Path, gguf: Path) -> None:
    manifest = import_file(gguf, "tiny", root)
    assert verify(root, manifest).notes == ()
    os.utime(gguf, ns=(1, 1))
    assert verify(root, manifest).notes == (), "it was only touched"
    gguf.write_bytes(OTHER)
    check = verify(root, manifest)
    assert check.ok
    assert check.notes == (f"the source {gguf} changed since it was imported",)
    gguf.unlink()
    assert verify(root, manifest).notes == (f"the source {gguf} is gone",)
    (root / manifest.folder / "tokenizer.json").write_bytes(b"{}")
    check = verify(root, manifest)
    assert check.bad == ["tokenizer.json"]
    with pytest.raises(UsageError, match="tiny was imported") as caught:
        plan_repair(check, root)
    assert f"lmsupply add {gguf}" in caught.value.hint


def test_the_store_for_programs(root: Path, gguf: Path) -> None:
    import_file(gguf, "tiny", root)
    store = ModelStore(root)
    assert store.get(str(gguf)).ref == "tiny"
    assert store.verify("tiny").ok
    assert store.remove("tiny") > 0
    assert store.list() == []
    assert gguf.read_bytes() == WEIGHTS, "the user's own file stays"


PARTS = [f"big-Q8_0-{number:05}-of-00003.gguf" for number in (1, 2, 3)]


def test_files_that_lead_to_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PARTS, "mmproj-big.gguf"):
        (tmp_path / name).write_bytes(b"GGUF" + name.encode())
    whole = source_of(tmp_path / PARTS[1])
    assert [file.name for file in whole.files] == PARTS
    assert (whole.name, whole.path.name, whole.format) == ("big-q8_0", PARTS[0], "gguf")
    assert source_at(str(tmp_path)) == whole
    (tmp_path / PARTS[2]).unlink()
    with pytest.raises(ModelNotFound, match=r"00003-of-00003\.gguf is missing"):
        source_at(str(tmp_path / PARTS[0]))
    (tmp_path / "lie-00001-of-99999.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFound, match="one of 99,999 parts"):
        source_at(tmp_path / "lie-00001-of-99999.gguf")
    with pytest.raises(UsageError, match="several models") as caught:
        source_at(str(tmp_path))
    assert "lie-00001-of-99999.gguf" in caught.value.hint
    monkeypatch.chdir(tmp_path)
    assert source_at("nowhere.gguf") is None
    assert source_at("tell me about gguf") is None
    assert source_at("owner/repo") is None


def test_folders_of_safetensors(tmp_path: Path, toy: Path) -> None:
    folder = tmp_path / "Own Model"
    folder.mkdir()
    names = ["config.json", "tokenizer.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
             "model-00002-of-00002.safetensors", "README.md", "consolidated.safetensors", "pytorch_model.bin"]  # fmt: skip
    for name in names:
        (folder / name).write_bytes(name.encode())
    source = source_of(folder)
    assert {file.name for file in source.files} == set(names[:5])
    assert (source.format, source.name, source.path) == ("safetensors", "own-model", folder)
    (folder / names[4]).unlink()
    with pytest.raises(ModelNotFound, match="1 of its parts are missing"):
        source_at(str(folder))
    for name in names[2:4]:
        (folder / name).unlink()
    with pytest.raises(ModelNotFound, match="its safetensors are"):
        source_at(folder)
    (folder / "model.safetensors").write_bytes(b"whole")
    assert {file.name for file in source_of(folder).files} == {"config.json", "tokenizer.json", "model.safetensors"}
    (folder / "model.safetensors").unlink()
    (folder / "consolidated.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="PyTorch pickles"):
        source_at(folder)
    (folder / "config.json").unlink()
    assert source_at(folder) is None
    assert source_at(toy) is None, "a model in GenAI format is used in place"


BAD_SOURCES: dict[str, dict[str, Any]] = {
    "no format": {"format": "zip"},
    "no files": {"files": []},
    "a path": {"files": [{"path": "", "size_bytes": 1, "digest": "sha256:" + "0" * 64, "mtime_ns": 0}]},
    "steers a terminal": {
        "files": [{"path": "\x1b[2J", "size_bytes": 1, "digest": "sha256:" + "0" * 64, "mtime_ns": 0}]
    },
    "no digest": {"files": [{"path": "/a", "size_bytes": 1, "digest": "", "mtime_ns": 0}]},
    "a size": {"files": [{"path": "/a", "size_bytes": -1, "digest": "sha256:" + "0" * 64, "mtime_ns": 0}]},
    "another content": {"files": [{"path": "/a", "size_bytes": 1, "digest": "sha256:" + "0" * 64, "mtime_ns": 0}]},
    "precision": {"precision": "../x"},
    "block size": {"block_size": "32"},
    "kinds": {"kinds": {"Q4_K": "many"}},
    "forms": {"forms": []},
    "kept": {"kept": 1},
    "importer": {"importer": None},
}


@pytest.mark.parametrize("change", BAD_SOURCES.values(), ids=list(BAD_SOURCES))
def test_a_record_of_an_import_is_checked(root: Path, gguf: Path, change: dict[str, Any]) -> None:
    manifest = import_file(gguf, "tiny", root)
    path = root / ".lmsupply" / "manifests" / f"{manifest.key}.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"source": record["source"] | change}))
    assert read_manifests(root) == []
    assert "is damaged" in read_records(root).skipped[0]


@pytest.mark.parametrize("place", ["../../elsewhere", "/etc", ".lmsupply/imported", ".lmsupply/imported/{key}.partial",
                                   ".lmsupply/imported/{key}/..", ".lmsupply/manifests", ""])  # fmt: skip
def test_a_record_of_an_import_names_no_other_place(root: Path, gguf: Path, place: str) -> None:
    manifest = import_file(gguf, "tiny", root)
    assert manifest.source
    path = root / ".lmsupply" / "manifests" / f"{manifest.key}.json"
    record = json.loads(path.read_text())
    there = place.format(key=manifest.source.key)
    path.write_text(json.dumps(record | {"folder": there, "snapshot": there}))
    assert read_manifests(root) == []


def test_kept_sources_of_a_record_stay_in_their_repo(root: Path, gguf: Path) -> None:
    manifest = replace(import_file(gguf, "tiny", root), repo="a/b", commit="c" * 40)
    path = root / ".lmsupply" / "manifests" / f"{manifest.key}.json"
    record = json.loads(next(path.parent.glob("*.json")).read_text())
    path.write_text(json.dumps(record | {"repo": "a/b", "commit": "c" * 40}))
    assert [m.repo for m in read_manifests(root)] == [""], "an absolute path is none of a repo"
    record["source"]["files"][0]["path"] = "x.gguf"
    path.write_text(json.dumps(record | {"repo": "a/b", "commit": "c" * 40}))
    assert sorted(m.repo for m in read_manifests(root)) == ["", "a/b"]


@pytest.mark.parametrize(
    ("forms", "precision", "said"),
    [
        ({"4 bits, block 32, exact": 9, "fp32": 3}, "exact", "int4"),
        ({"8 bits, block 16": 9, "4 bits": 3}, "exact", "int8"),
        ({"fp16": 9}, "exact", "fp16"),
        ({}, "exact", None),
        ({"2 bits": 1}, "exact", None),
        ({}, "int8", "int8"),
    ],
)
def test_the_precision_of_an_import(forms: dict[str, int], precision: str, said: str | None) -> None:
    file = SourceFile("/a.gguf", 1, "sha256:" + "1" * 64)
    assert ImportSource("gguf", (file,), precision, forms=forms).stored_precision == said


@pytest.mark.parametrize("seed", range(4))
def test_any_record_and_any_cache_of_digests(root: Path, gguf: Path, seed: int) -> None:
    """What they hold is never trusted, and never an error."""
    manifest = import_file(gguf, "tiny", root)
    record, cache = root / ".lmsupply" / "manifests" / f"{manifest.key}.json", root / ".lmsupply" / "digests.json"
    whole, rows = record.read_bytes(), cache.read_bytes()
    rng = random.Random(seed)
    for _ in range(100):
        record.write_bytes(mutated(whole, rng, form="json"))
        cache.write_bytes(mutated(rows, rng, form="json"))
        for found in read_manifests(root):
            assert found.folder == manifest.folder
            assert found.source
            assert found.source.key == manifest.source.key
            assert verify(root, found).files
        known_digests(root, [gguf])
        find_leftovers(root)
    record.write_bytes(whole)
    assert read_digests(root, [gguf])[0].size_bytes == len(WEIGHTS)


# ---- several processes, and kills


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos["a/tiny-GGUF"] = Repo(
            {"Tiny-Q4_K_M.gguf": WEIGHTS, "Tiny-Q8_0.gguf": OTHER, "LICENSE": b"for all", "README.md": b"#"},
            license="apache-2.0",
        )
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def server(hub: Hub) -> Iterator[ForkServer]:
    with ForkServer(hub.url) as server:
        yield server


def test_processes_that_import_the_same_wait_for_each_other(server: ForkServer, root: Path, gguf: Path) -> None:
    jobs = [Job(str(root), imports=((str(gguf), name),)) for name in ("one", "one", "two", "three")]
    assert server.round(jobs) == [0, 0, 0, 0]
    assert conversions(root) == 1
    assert [m.ref for m in installed(root)] == ["one", "three", "two"]
    assert strangers(root) == []


def test_processes_that_pull_and_import_the_same(server: ForkServer, hub: Hub, root: Path) -> None:
    assert server.round([Job(str(root), sources=("a/tiny-GGUF",))] * 3) == [0, 0, 0]
    assert conversions(root) == 1
    assert [m.ref for m in installed(root)] == ["a/tiny-GGUF"]
    assert len(hub.of("cdn")) == 1
    assert strangers(root) == []


@pytest.mark.parametrize("what", ["import", "import again", "second name", "new content", "from the Hub", "remove"])
def test_a_kill_at_every_change_of_the_disk(server: ForkServer, tmp_path: Path, gguf: Path, what: str) -> None:
    start = tmp_path / "start"
    start.mkdir()
    before: list[str] = []
    job, after = Job("", imports=((str(gguf), "one"),)), ["one"]
    if what not in ("import", "from the Hub"):
        assert server.round([Job(str(start), imports=((str(gguf), "one"),))]) == [0]
        before = ["one"]
    if what == "import again":
        job = replace(job, again=True)
    elif what == "second name":
        job, after = Job("", imports=((str(gguf), "two"),)), ["one", "two"]
    elif what == "new content":
        gguf.write_bytes(OTHER)
    elif what == "from the Hub":
        job, after = Job("", sources=("a/tiny-GGUF",)), ["a/tiny-GGUF"]
    elif what == "remove":
        job, after = Job("", remove=("one",)), []
    for kill_at in range(1, MOST_CALLS):
        root = tmp_path / str(kill_at)
        shutil.copytree(start, root)
        change = replace(job, root=str(root), kill_at=kill_at)
        (code,) = server.round([change])
        assert {m.ref for m in installed(root)} <= {*before, *after}
        if code == 0:
            break
        assert code == -9
        if kill_at % 2:  # free what is left, or do it again
            left = find_leftovers(root)
            assert free_leftovers(root) == (left.size_bytes, ())
            assert not find_leftovers(root).any
        else:
            assert server.round([replace(change, kill_at=0)]) == [0]
            assert [m.ref for m in installed(root)] == after
            free_leftovers(root)
        assert strangers(root) == []
        shutil.rmtree(root)
    else:
        raise AssertionError("it never came to its end")
    assert [m.ref for m in installed(root)] == after
    assert strangers(root) == []
    assert kill_at > 5


def test_leftovers_of_a_kill_are_named_and_no_model(server: ForkServer, root: Path, gguf: Path) -> None:
    for kill_at in range(1, MOST_CALLS):
        (code,) = server.round([Job(str(root), imports=((str(gguf), "one"),), kill_at=kill_at)])
        left = find_leftovers(root)
        if left.imports and left.size_bytes > len(WEIGHTS) / 2:
            break
        assert code == -9
    assert list(left.imports) == ["one"]
    assert left.any
    with pytest.raises(NotImported):
        locate(str(gguf), root)
    assert free_leftovers(root) == (left.size_bytes, ())
    assert strangers(root) == []


def test_an_import_that_runs_is_not_freed(root: Path, gguf: Path) -> None:
    with begin_import(root, new_import(root, gguf, "tiny"), needed_bytes=0) as staging:
        (staging.folder / "half").write_bytes(b"x")
        left = find_leftovers(root)
        assert (left.busy, left.imports, left.size_bytes) == (("tiny",), {}, 0)
        assert free_leftovers(root) == (0, ("tiny",))
        manifest = convert(gguf, staging)
    assert installed(root) == [manifest]


# ---- from the Hub


def source_plan(name: str, root: Path, wish: VariantWish | None = None, rules: SourceRules | None = None) -> SourcePlan:
    plan = plan_any(name, root, wish or VariantWish(), rules or SourceRules())
    assert isinstance(plan, SourcePlan)
    return plan


def test_a_model_of_the_hub(hub: Hub, root: Path) -> None:
    plan = source_plan("a/tiny-GGUF", root)
    assert (plan.ref, plan.source.quantization, plan.imported) == ("a/tiny-GGUF", "Q4_K_M", ())
    assert plan.fetch_bytes == len(WEIGHTS) + len(b"for all")
    manifest = import_repo("a/tiny-GGUF", root)
    assert (manifest.repo, manifest.commit, manifest.variant) == (
        "a/tiny-GGUF",
        hub.repos["a/tiny-GGUF"].commit,
        "q4_k_m",
    )
    assert (manifest.license, manifest.tier) == ("Apache-2.0", "permissive")
    assert manifest.source
    assert not manifest.source.kept
    assert installed(root) == [manifest]
    assert strangers(root) == [], "the source was only a step"
    for name in ("a/tiny-GGUF", "A/Tiny-gguf", "a/tiny-GGUF:q4_k_m", f"a/tiny-GGUF@{manifest.commit[:9]}"):
        model = locate(name, root)
        assert (model.key, model.was_pulled, model.precision) == (manifest.key, True, "int4")
    again = source_plan("a/tiny-GGUF", root)
    assert again.imported == (manifest,)
    assert again.imported_as(ImportForm("exact")) == manifest
    assert again.imported_as(ImportForm("int4", 32)) is None
    asked = len(hub.of("cdn"))
    assert import_repo("a/tiny-GGUF", root) == manifest
    assert (len(hub.of("cdn")), conversions(root)) == (asked, 1)
    with pytest.raises(ModelNotFound, match="it is GGUF"):
        plan_pull("a/tiny-GGUF", root)
    assert carry_out(root, [manifest]).freed_bytes == manifest.size_bytes
    assert strangers(root) == []


def test_a_source_that_is_kept(hub: Hub, root: Path) -> None:
    first = import_repo("a/tiny-GGUF:q8_0", root)
    assert (first.ref, first.variant) == ("a/tiny-GGUF:q8_0", "q8_0")
    kept = import_repo("a/tiny-GGUF:q8_0", root, keep=True)
    assert conversions(root) == 1, "only the source was fetched again"
    (source,) = root.glob("models--*/snapshots/*/*.gguf")
    assert source.read_bytes() == OTHER
    assert kept.source.kept
    assert verify(root, kept).notes == ()
    assert strangers(root) == []
    assert (find_leftovers(root).any, find_leftovers(root).files) == (False, {})
    assert import_repo("a/tiny-GGUF:q8_0", root) == kept, "it stays kept"
    source.write_bytes(WEIGHTS)
    assert verify(root, kept).ok
    assert verify(root, kept).notes == (f"the source {source} changed since it was imported",)
    assert carry_out(root, [kept]).freed_bytes == kept.size_bytes + len(OTHER)
    assert strangers(root) == []


def test_a_source_that_is_kept_without_an_import(hub: Hub, root: Path) -> None:
    """It was only converted to a folder elsewhere: the next run finds it, and it is freed like any unfinished pull."""
    for _ in range(2):
        with fetch_source(
            source_plan("a/tiny-GGUF", root), root, ImportForm("exact"), keep=True, again=True
        ) as fetched:
            assert fetched.files[0].read_bytes() == WEIGHTS
    assert len(hub.of("cdn")) == 1
    left = find_leftovers(root)
    assert list(left.files) == ["a/tiny-GGUF"]
    assert free_leftovers(root) == (left.size_bytes, ())
    assert strangers(root) == []


def test_a_kept_source_that_is_damaged_is_fetched_again(hub: Hub, root: Path) -> None:
    import_repo("a/tiny-GGUF", root, keep=True)
    (source,) = root.glob("models--*/snapshots/*/*.gguf")
    source.write_bytes(WEIGHTS[:-1] + b"?")
    with fetch_source(source_plan("a/tiny-GGUF", root), root, ImportForm("exact"), keep=True, again=True):
        assert source.read_bytes() == WEIGHTS
    assert strangers(root) == []


def test_the_same_file_from_the_hub_and_from_the_disk(hub: Hub, root: Path, gguf: Path) -> None:
    mine = import_file(gguf, "mine", root)
    pulled = import_repo("a/tiny-GGUF", root)
    assert conversions(root) == 1
    assert hub.of("cdn") == []
    assert pulled.folder == mine.folder
    assert (pulled.license, mine.license) == ("Apache-2.0", "unknown")
    carry_out(root, [mine])
    assert [m.ref for m in installed(root)] == ["a/tiny-GGUF"]


def test_a_new_commit_with_the_same_weights_is_not_fetched(hub: Hub, root: Path) -> None:
    old = import_repo("a/tiny-GGUF", root)
    hub.repos["a/tiny-GGUF"].files["README.md"] = b"# new"
    new = import_repo("a/tiny-GGUF", root)
    assert (conversions(root), len(hub.of("cdn"))) == (1, 1)
    assert new.commit == hub.repos["a/tiny-GGUF"].commit != old.commit
    assert installed(root) == [new]


def test_an_interrupted_import_does_not_download_again(hub: Hub, root: Path) -> None:
    plan = source_plan("a/tiny-GGUF", root)

    def fail() -> None:
        with fetch_source(plan, root, ImportForm("exact")) as fetched:
            assert fetched.files[0].read_bytes() == WEIGHTS
            assert fetched.licenses[0].read_bytes() == b"for all"
            raise ModelFilesError("unknown architecture")

    with pytest.raises(ModelFilesError, match="unknown architecture"):
        fail()
    assert installed(root) == []
    left = find_leftovers(root)
    assert list(left.files) == ["a/tiny-GGUF"]
    import_repo("a/tiny-GGUF", root)
    assert len(hub.of("cdn")) == 1
    assert strangers(root) == []


def test_a_download_that_breaks_is_resumed_by_the_next_run(hub: Hub, root: Path) -> None:
    hub.faults = [Fault("cdn", "status", status=403, times=99)]
    with pytest.raises(HubError):
        import_repo("a/tiny-GGUF@main", root)
    assert installed(root) == []
    hub.faults = [Fault("cdn", "corrupt")]
    assert import_repo("a/tiny-GGUF", root).ref == "a/tiny-GGUF"
    assert strangers(root) == []


def test_a_hub_that_names_no_digests(hub: Hub, root: Path) -> None:
    hub.repos["a/odd"] = Repo({"x-Q4_0.gguf": b"GGUF" + bytes(100)}, license="")
    hub.repos["a/odd"].rows["x-Q4_0.gguf"] = {"oid": None}
    manifest = import_repo("a/odd", root)
    assert manifest.source.files[0].digest.startswith("sha256:")
    assert manifest.license == "unknown"
    assert installed(root) == [manifest]
    assert strangers(root) == []


def test_room_for_download_and_import_is_checked_first(hub: Hub, root: Path) -> None:
    plan = replace(source_plan("a/tiny-GGUF", root), reserved_bytes=10**18)
    assert not plan.fits_disk
    with (
        pytest.raises(HubError, match=r"to download and .* to write, but only"),
        fetch_source(plan, root, ImportForm("exact")),
    ):
        pass
    assert hub.of("cdn") == []


def test_what_cannot_be_imported_is_known_before_the_download(hub: Hub, root: Path) -> None:
    from lmsupply_cli.engine.runnable import Obstacle

    seen: list[bytes] = []

    def inspect(source: SourceVariant, read: Any) -> tuple[Obstacle, ...]:
        seen.append(read(source.files[0].path, 1000))
        return (Obstacle("its architecture is unknown", "choose another model"),)

    plan = source_plan("a/tiny-GGUF", root, rules=SourceRules(inspect=inspect))
    assert seen == [WEIGHTS[:1000]]
    with (
        pytest.raises(ModelFilesError, match="its architecture is unknown"),
        fetch_source(plan, root, ImportForm("exact")),
    ):
        pass
    assert strangers(root) == []


def test_a_prefix_is_read_again_after_a_fault(hub: Hub, root: Path) -> None:
    from lmsupply_cli.hub.client import HubClient
    from lmsupply_cli.hub.retry import RetryPolicy

    with HubClient(policy=RetryPolicy(sleep=lambda _: None)) as client:
        tree: RepoTree = client.fetch_tree("a/tiny-GGUF")
        hub.faults = [Fault("cdn", "drop", after=10), Fault("cdn", "status", status=500)]
        assert client.fetch_prefix(tree, "Tiny-Q4_K_M.gguf", 2000) == WEIGHTS[:2000]
        assert client.fetch_prefix(tree, "Tiny-Q4_K_M.gguf", 10**9) == WEIGHTS


def test_genai_comes_first_and_a_source_where_it_is_named(hub: Hub, root: Path, toy: Path) -> None:
    genai = {f"cpu-int4/{path.name}": path.read_bytes() for path in toy.iterdir()}
    hub.repos["a/tiny-GGUF"].files |= genai
    assert isinstance(plan_any("a/tiny-GGUF", root), PullPlan)
    assert isinstance(plan_any("a/tiny-GGUF:int4", root), PullPlan)
    for name, kind in (("gguf", "Q4_K_M"), ("q8_0", "Q8_0"), ("Tiny-Q8_0.gguf", "Q8_0")):
        assert source_plan(f"a/tiny-GGUF:{name}", root).source.quantization == kind


def test_what_was_imported_is_not_pulled(hub: Hub, root: Path, gguf: Path) -> None:
    import_file(gguf, "mine", root)
    with pytest.raises(UsageError, match="a model that you imported"):
        plan_any("mine", root)
