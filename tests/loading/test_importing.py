"""Imports in Python: `import_model`, `load` of a path, `pull` of a repo that is imported, and the store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import Hub, Repo, local_hub
from support.tiny_imports import repo_files, write_tiny_gguf, write_tiny_safetensors

from lmsupply import (
    FileProgress,
    LicenseNotAccepted,
    LmsupplyError,
    ModelFilesError,
    ModelNotFound,
    ModelStore,
    Notice,
    NotImported,
    ProgressListener,
    TextGeneratorBuilder,
    UsageError,
    import_model,
    load,
    plan_load,
    pull,
)


class Heard(ProgressListener):
    def __init__(self) -> None:
        self.steps: dict[str, FileProgress] = {}
        self.notices: list[str] = []

    def file(self, progress: FileProgress) -> None:
        self.steps[progress.step] = progress

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice.text)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "Tiny.gguf")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return write_tiny_safetensors(tmp_path / "tuned")


@pytest.fixture
def hub(tmp_path: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        kinds = {
            f"x-{kind}.gguf": write_tiny_gguf(tmp_path / "x.gguf", kind).read_bytes()
            for kind in ("Q4_0", "Q8_0", "F16")
        }
        hub.repos["a/tiny-GGUF"] = Repo(kinds)
        hub.repos["a/tuned"] = Repo(repo_files(tuned), license="llama3.2")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.mark.parametrize("as_text", [True, False])
def test_load_imports_on_first_use(gguf: Path, as_text: bool) -> None:
    for _ in range(2):
        with load(str(gguf) if as_text else gguf) as model:
            assert (model.info.ref, model.info.precision) == ("tiny", "int4")
            assert model.generate("hi", max_tokens=3).usage.completion_tokens <= 3
    (found,) = ModelStore().list()
    assert found.source is not None
    assert found.source.files[0].path == str(gguf)


def test_the_builder_takes_a_file(gguf: Path) -> None:
    with TextGeneratorBuilder().with_model_path(gguf).build() as model:
        assert model.info.ref == "tiny"
    with pytest.raises(UsageError, match="no such folder"):
        TextGeneratorBuilder().with_model_path(gguf.with_name("nope.gguf")).build()


def test_a_plan_imports_nothing(gguf: Path) -> None:
    with pytest.raises(NotImported) as caught:
        plan_load(gguf)
    assert (caught.value.code, caught.value.exit_code) == ("not_imported", 3)
    assert ModelStore().list() == []
    model = import_model(gguf)
    assert plan_load(gguf).model.key == model.key


def test_import_model(gguf: Path, tuned: Path, tmp_path: Path) -> None:
    heard = Heard()
    model = import_model(gguf, listener=heard)
    assert (model.ref, model.precision, model.license.id) == ("tiny", "int4", "MIT")
    assert heard.steps.keys() == {"read", "convert"}
    assert all(step.all_done_bytes == step.all_bytes for step in heard.steps.values())
    quiet = Heard()
    assert import_model(str(gguf), listener=quiet).key == model.key
    assert quiet.steps == {}
    other = import_model(tuned, "mine", precision="int8", block_size=64)
    assert (other.ref, other.precision) == ("mine", "int8")
    assert import_model(gguf, cache_dir=tmp_path / "elsewhere").path.is_relative_to(tmp_path / "elsewhere")
    assert sorted(model.ref for model in ModelStore().list()) == ["mine", "tiny"]


@pytest.mark.parametrize(
    ("name", "wish", "error", "said"),
    [
        ("nope.gguf", {}, ModelNotFound, "no such file"),
        ("nope", {}, ModelNotFound, "no such file or folder"),
        (".", {}, ModelNotFound, "contains no model to import"),
        ("Tiny.gguf", {"name": "guide"}, UsageError, "already a model called guide"),
        ("Tiny.gguf", {"precision": "q4"}, UsageError, "`precision` can't be 'q4' here"),
        ("Tiny.gguf", {"block_size": 64}, UsageError, "`block_size` has no effect with `precision=exact`"),
        ("Tiny.gguf", {"precision": "int4", "block_size": 48}, UsageError, "`block_size` can't be 48"),
        ("cut.gguf", {}, ModelFilesError, "ends before the tensor"),
    ],
)
def test_what_cannot_be_imported(
    gguf: Path, tmp_path: Path, name: str, wish: dict[str, object], error: type[LmsupplyError], said: str
) -> None:
    (tmp_path / "inner").mkdir()
    for path in (shutil.copyfile(gguf, tmp_path / "cut.gguf"),):
        path.write_bytes(path.read_bytes()[:-100])
    place = tmp_path / "inner" if name == "." else tmp_path / name
    with pytest.raises(error, match=said):
        import_model(place, **wish)  # type: ignore[arg-type]
    assert ModelStore().list() == []


def test_what_python_names_is_named_as_in_python(gguf: Path) -> None:
    with pytest.raises(UsageError) as caught:
        import_model(gguf, block_size=32)
    assert "--" not in caught.value.message + caught.value.hint


def test_pull_imports(hub: Hub) -> None:
    heard = Heard()
    model = pull("a/tiny-GGUF", listener=heard)
    assert (model.ref, model.variant, model.precision) == ("a/tiny-GGUF", "q4_0", "int4")
    assert heard.steps.keys() == {"download", "convert", "read"}
    assert pull("a/tiny-GGUF").key == model.key
    assert pull("a/tiny-GGUF:q8_0").precision == "int8"
    assert pull("a/tiny-GGUF", precision="fp16").precision == "fp16"
    assert pull("a/tiny-GGUF:f16").precision == "int8"
    with load("a/tiny-GGUF:q8_0") as loaded:
        assert loaded.info.precision == "int8"


def test_terms_are_accepted_in_python(hub: Hub) -> None:
    with pytest.raises(LicenseNotAccepted, match=r"Llama-3\.2"):
        pull("a/tuned")
    assert hub.of("cdn") == []
    model = pull("a/tuned", accept_license=True, precision="int8")
    assert (model.precision, model.license.id) == ("int8", "Llama-3.2")


def test_the_store(gguf: Path, tuned: Path) -> None:
    import_model(gguf)
    import_model(tuned)
    store = ModelStore()
    assert store.get(str(gguf)).ref == "tiny"
    assert store.verify("tiny").ok
    assert store.remove(str(gguf)) > 90_000
    assert [model.ref for model in store.list()] == ["tuned"]
    assert gguf.exists()


def test_models_of_several_forms(tuned: Path) -> None:
    four, eight = import_model(tuned), import_model(tuned, precision="int8")
    assert four.path != eight.path
    assert sorted(str(model.precision) for model in ModelStore().list()) == ["int4", "int8"]
