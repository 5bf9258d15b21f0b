from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.engine.detokenizer import ByteDetokenizer, Detokenizer, WindowDetokenizer
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


KINDS = ["bytes", "window"]


def pieces(model: GenaiModel, ids: list[int], kind: str = "bytes") -> list[str]:
    """`kind`: the detokenizer of the model, or the one for tokenizers whose tokens do not stand for bytes."""
    detokenizer: Detokenizer = model.new_detokenizer()
    assert isinstance(detokenizer, ByteDetokenizer)
    if kind == "window":
        detokenizer = WindowDetokenizer(model.decode, model.hidden_ids)
    return [*(detokenizer.push(i) for i in ids), detokenizer.flush()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["toy", "qwen2", "phi3"])
@pytest.mark.parametrize("text", TEXTS)
def test_whole_characters_stream_without_replacement(
    models: dict[str, GenaiModel], name: str, text: str, kind: str
) -> None:
    text = unicodedata.normalize("NFC", text) if name == "qwen2" else text  # as its tokenizer does
    shown = pieces(models[name], models[name].encode(text), kind)
    assert "".join(shown).strip() == text.strip()
    assert not any("\ufffd" in piece for piece in shown)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_character_eats_nothing_after_it(models: dict[str, GenaiModel], kind: str) -> None:
    broken = list("🏳".encode())[:2]
    for after in ("abc", "é", "日本", "a"):
        shown = "".join(pieces(models["toy"], [*b"x", *broken, *after.encode()], kind))
        assert shown.startswith("x\ufffd")
        assert shown.endswith(after)
    assert "".join(pieces(models["toy"], [*b"x", *broken], kind)).rstrip("\ufffd") == "x"
    assert "".join(pieces(models["toy"], [*b"x", *broken])) == models["toy"].decode([*b"x", *broken]) == "x\ufffd"
    assert "".join(pieces(models["toy"], [*b"x", *broken], "window")) == "x\ufffd\ufffd"


@pytest.mark.parametrize("kind", KINDS)
def test_one_piece_is_ready_as_soon_as_it_is_whole(models: dict[str, GenaiModel], kind: str) -> None:
    shown = pieces(models["toy"], list("aé日🏳b".encode()), kind)
    assert shown == ["a", "", "é", "", "", "日", "", "", "", "🏳", "b", ""]


@given(st.text(max_size=30))
def test_bytes_come_out_as_they_went_in(text: str) -> None:
    text = text.replace("\ufffd", "")
    detokenizer = WindowDetokenizer(lambda ids: bytes(ids).decode("utf-8", errors="replace"))
    shown = [*(detokenizer.push(b) for b in text.encode()), detokenizer.flush()]
    assert "".join(shown) == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_token_has_no_text_and_no_mark_of_a_broken_character(
    models: dict[str, GenaiModel], kind: str
) -> None:
    model = models["qwen2"]
    word, control, broken = model.encode("word"), model.encode("<|im_start|>"), model.encode("日")[:1]
    assert "".join(pieces(model, [*control, *word, *control], kind)) == "word"
    assert "".join(pieces(model, [*word, *control, *word], kind)) == "wordword"
    assert "".join(pieces(model, [*word, *broken, *control], kind)) == "word\ufffd"


def test_a_space_at_the_start_counts_only_where_a_text_goes_on(models: dict[str, GenaiModel]) -> None:
    """SentencePiece vocabularies put a space before a text, and take it away again."""
    model = models["phi3"]
    ids = model.encode("word and word")
    for continues, text in ((False, "word and word"), (True, " word and word")):
        detokenizer = model.new_detokenizer(continues=continues)
        assert "".join([*map(detokenizer.push, ids), detokenizer.flush()]) == text
    assert model.decode(ids) == "word and word"
