from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.engine.detokenizer import Detokenizer
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import GenaiModel

TEXTS = [
    "plain words, and more",
    "Grüße an alle",
    "日本語のテキスト",
    "👩‍👩‍👧 family 🏳️‍🌈",
    "é combining e\u0301",
    "  two  spaces\n\n\tx",
]


@pytest.fixture(scope="module")
def models() -> dict[str, GenaiModel]:
    root = Path(__file__).parent.parent / "models"
    return {name: GenaiModel(open_folder(root / name)) for name in ("toy", "qwen2", "phi3")}


def pieces(model: GenaiModel, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(model.decode, model.hidden_ids)
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


@pytest.mark.parametrize("name", ["toy", "qwen2", "phi3"])
@pytest.mark.parametrize("text", TEXTS)
def test_whole_characters_stream_without_replacement(models: dict[str, GenaiModel], name: str, text: str) -> None:
    shown = pieces(models[name], models[name].encode(text))
    assert "".join(shown).strip() == text.strip()
    assert not any("\ufffd" in piece for piece in shown)


def test_a_broken_character_eats_nothing_after_it(models: dict[str, GenaiModel]) -> None:
    broken = list("🏳".encode())[:2]
    for after in ("abc", "é", "日本", "a"):
        shown = "".join(pieces(models["toy"], [*b"x", *broken, *after.encode()]))
        assert shown.startswith("x\ufffd")
        assert shown.endswith(after)
    assert "".join(pieces(models["toy"], [*b"x", *broken])) == "x\ufffd\ufffd"


def test_one_piece_is_ready_as_soon_as_it_is_whole(models: dict[str, GenaiModel]) -> None:
    assert pieces(models["toy"], list("aé日🏳b".encode())) == ["a", "", "é", "", "", "日", "", "", "", "🏳", "b", ""]


@given(st.text(max_size=30))
def test_bytes_come_out_as_they_went_in(text: str) -> None:
    text = text.replace("\ufffd", "")
    detokenizer = Detokenizer(lambda ids: bytes(ids).decode("utf-8", errors="replace"))
    shown = [*(detokenizer.push(b) for b in text.encode()), detokenizer.flush()]
    assert "".join(shown) == text


def test_a_control_token_has_no_text_and_no_mark_of_a_broken_character(models: dict[str, GenaiModel]) -> None:
    model = models["qwen2"]
    word, control, broken = model.encode("word"), model.encode("<|im_start|>"), model.encode("日")[:1]
    assert "".join(pieces(model, [*control, *word, *control])) == "word"
    assert "".join(pieces(model, [*word, *control, *word])) == "wordword"
    assert "".join(pieces(model, [*word, *broken, *control])) == "word\ufffd"
