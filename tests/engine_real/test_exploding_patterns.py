"""A tokenizer.json whose regular expression explodes: the engine's library hangs or dies of it, this program does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lmsupply_cli.engine.folder import ModelFolder, open_folder
from lmsupply_cli.engine.genai import GenaiModel
from lmsupply_cli.engine.genai_tokenizer import load_tokenizer
from lmsupply_cli.errors import ModelFilesError

MODELS = Path(__file__).parent.parent / "models"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODELS / "qwen2", tmp_path / "model"))


def with_pattern(folder: Path, pattern: str) -> ModelFolder:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return open_folder(folder)


def test_an_unknown_pattern_cuts_text_as_the_engine_does(folder: Path) -> None:
    with GenaiModel(with_pattern(folder, "l+")) as model:
        ids = model.encode("hello")
        assert [model.decode([i]) for i in ids] == ["he", "ll", "o"]
        assert model.encode("") == []
    tokenizer = load_tokenizer(open_folder(folder))
    assert tokenizer.encode("hello") == ids
    tokenizer.close()


def test_text_that_takes_exponential_time_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with GenaiModel(with_pattern(folder, "(a+)+$")) as model:
        guard = model._tokenizer._guard
        assert guard is not None
        monkeypatch.setattr(guard._worker, "limit_s", 1.0)
        with pytest.raises(ModelFilesError, match="it ran longer than 1") as caught:
            model.encode("a" * 60 + "b")
        assert "tokenizer.json: the engine fails at its pattern '(a+)+$' on this text" in caught.value.message
        monkeypatch.undo()
        assert model.decode(model.encode("hello")) == "hello"


def test_text_of_which_the_engine_dies_ends_only_its_worker(folder: Path) -> None:
    with GenaiModel(with_pattern(folder, ".*")) as model:
        with pytest.raises(ModelFilesError, match=r"pattern '\.\*' on this text"):
            model.encode("a" * 300_000)
        assert model.decode(model.encode("hello")) == "hello"


def test_a_pattern_that_does_not_parse_is_said(folder: Path) -> None:
    with pytest.raises(ModelFilesError, match="Invalid regex"):
        GenaiModel(with_pattern(folder, "["))


def test_a_known_pattern_needs_no_worker() -> None:
    with GenaiModel(open_folder(MODELS / "qwen2")) as model:
        assert model._tokenizer._guard is None
        assert len(model.encode("a" * 300_000)) > 0
