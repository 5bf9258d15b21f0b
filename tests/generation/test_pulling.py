"""Pull from a program, from a local Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import Hub, Repo, local_hub

from lmsupply_cli import FileProgress, LicenseNotAccepted, ModelFactory, Notice, ProgressListener, pull

REPO = "someone/tiny"
MODEL = Path(__file__).parent.parent / "models" / "llama"


class Heard(ProgressListener):
    def __init__(self) -> None:
        self.files: list[FileProgress] = []

    def file(self, progress: FileProgress) -> None:
        self.files.append(progress)

    def notice(self, notice: Notice) -> None:
        raise AssertionError(notice)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos[REPO] = Repo({path.name: path.read_bytes() for path in MODEL.iterdir()}, license="apache-2.0")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_a_pull_with_its_progress(hub: Hub, tmp_path: Path) -> None:
    heard = Heard()
    model = pull(REPO, cache_dir=tmp_path, listener=heard)
    assert (model.repo, model.license.id) == (REPO, "Apache-2.0")
    assert (model.path / "genai_config.json").exists()
    assert heard.files[-1].all_done_bytes == heard.files[-1].all_bytes
    assert {one.path for one in heard.files} >= {"model.onnx", "tokenizer.json"}
    asked = len(hub.of("cdn"))
    assert pull(REPO, cache_dir=tmp_path).path == model.path
    assert len(hub.of("cdn")) == asked, "what is here is not fetched again"


def test_terms_have_to_be_accepted(hub: Hub, tmp_path: Path) -> None:
    hub.repos[REPO].license = "cc-by-nc-4.0"
    with pytest.raises(LicenseNotAccepted, match=r"(?i)cc-by-nc-4\.0") as caught:
        pull(REPO, cache_dir=tmp_path)
    assert "accept_license=True" in caught.value.hint
    assert not hub.of("cdn")
    assert pull(REPO, cache_dir=tmp_path, accept_license=True).repo == REPO


def test_the_factory_downloads_and_creates(hub: Hub, tmp_path: Path) -> None:
    factory = ModelFactory(cache_dir=tmp_path)
    assert not factory.is_available(REPO)
    heard = Heard()
    ref = factory.download(REPO, listener=heard).ref
    assert heard.files
    assert factory.is_available(ref)
    assert ref in [model.ref for model in factory.list()]
    with factory.create(ref, context=64) as model:
        assert model.generate("x", max_tokens=2, temperature=0).usage.completion_tokens <= 2
