"""A tokenizer.json whose regular expression explodes: a library hangs or dies of it, this program does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tokenizers

from lmsupply_cli.engine.folder import ModelFolder, open_folder
from lmsupply_cli.engine.genai import GenaiModel, import_engine
from lmsupply_cli.engine.genai_tokenizer import GenaiTokenizer
from lmsupply_cli.engine.tokenizer import ModelTokenizer, Tokenizer
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


def engines(folder: ModelFolder) -> GenaiTokenizer:
    """The engine's own tokenizer, as it is used where the library does not take a tokenizer.json."""
    return GenaiTokenizer(folder, lambda: import_engine().Tokenizer(str(folder.path)))


def test_an_unknown_pattern_cuts_text_as_a_known_one_would(folder: Path) -> None:
    with GenaiModel(with_pattern(folder, "l+")) as model:
        ids = model.encode("hello")
        assert [model.decode([i]) for i in ids] == ["he", "ll", "o"]
        assert model.encode("") == []
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert library.encode("hello", add_special_tokens=False).ids == ids
    tokenizer: Tokenizer = engines(open_folder(folder))
    assert tokenizer.encode("hello") == ids
    tokenizer.close()


@pytest.mark.parametrize(
    ("kind", "pattern", "text"), [("library", "a*(?<=b)", "a" * 60_000), ("engine", "(a+)+$", "a" * 60 + "b")]
)
def test_text_that_takes_too_long_is_given_up(
    folder: Path, kind: str, pattern: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = with_pattern(folder, pattern)
    tokenizer = ModelTokenizer(opened) if kind == "library" else engines(opened)
    guard = tokenizer._guard
    assert guard is not None
    monkeypatch.setattr(guard._worker, "limit_s", 1.0)
    with pytest.raises(ModelFilesError, match=r"it ran longer than [0-9.]{1,4} seconds") as caught:
        tokenizer.encode(text)
    assert f"tokenizer.json: its pattern '{pattern}' fails on this text" in caught.value.message
    assert "\n" not in caught.value.message
    monkeypatch.undo()
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"
    tokenizer.close()


def test_text_on_which_the_library_gives_up_by_itself_is_said(folder: Path) -> None:
    with GenaiModel(with_pattern(folder, "(a+)+$")) as model:
        with pytest.raises(ModelFilesError, match=r"model: tokenizer\.json fails: .*retry-limit"):
            model.encode("a" * 60 + "b")
        assert model.decode(model.encode("hello")) == "hello"


def test_text_of_which_the_engine_dies_ends_only_its_worker(folder: Path) -> None:
    tokenizer = engines(with_pattern(folder, ".*"))
    with pytest.raises(ModelFilesError, match=r"pattern '\.\*' fails on this text"):
        tokenizer.encode("a" * 300_000)
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"
    tokenizer.close()


def test_a_pattern_that_does_not_parse_is_said(folder: Path) -> None:
    opened = with_pattern(folder, "[")
    with pytest.raises(ModelFilesError, match="premature end of char-class"):
        GenaiModel(opened)
    with pytest.raises(ModelFilesError, match="Invalid regex"):
        engines(opened)


def test_a_known_pattern_needs_no_worker() -> None:
    with GenaiModel(open_folder(MODELS / "qwen2")) as model:
        assert model._tokenizer._guard is None
        assert len(model.encode("a" * 300_000)) > 0
