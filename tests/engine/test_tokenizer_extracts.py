from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import pytest
from support.hard_texts import hard_texts, telling_texts

tokenizers = pytest.importorskip("tokenizers")

EXTRACTS = Path(__file__).parent.parent / "data" / "tokenizers"
FAMILIES = sorted(path.stem for path in EXTRACTS.glob("*.json") if path.stem != "expected")
WHOLE = os.environ.get("LMSUPPLY_TOKENIZERS")  # the folder that tools/fetch_tokenizers.py writes


@pytest.fixture(scope="module")
def expected() -> dict[str, list[list[int]]]:
    """For each family the ids of the telling texts that its whole tokenizer gives, numbered as in the extract."""
    found: dict[str, list[list[int]]] = json.loads((EXTRACTS / "expected.json").read_text(encoding="utf-8"))
    return found


def load(path: Path) -> Any:
    tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encoded(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def test_texts_are_many_and_always_the_same() -> None:
    texts = hard_texts()
    assert len(texts) == len(set(texts)) >= 370
    assert texts == hard_texts()
    assert texts[: len(telling_texts())] == telling_texts()
    assert not any("\0" in text for text in texts)


def test_every_family_has_expected_ids(expected: dict[str, list[list[int]]]) -> None:
    assert sorted(expected) == FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_extract_gives_the_ids_of_the_whole_tokenizer(family: str, expected: dict[str, list[list[int]]]) -> None:
    texts = telling_texts()
    found = encoded(load(EXTRACTS / f"{family}.json"), texts)
    assert dict(zip(texts, found, strict=True)) == dict(zip(texts, expected[family], strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_an_extract_have_no_gaps(family: str) -> None:
    tokenizer = load(EXTRACTS / f"{family}.json")
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    assert sorted(vocab.values()) == list(range(len(vocab)))
    rows = json.loads((EXTRACTS / f"{family}.json").read_text(encoding="utf-8"))["added_tokens"]
    assert {row["content"]: row["id"] for row in rows}.items() <= vocab.items()


@pytest.mark.skipif(not WHOLE, reason="LMSUPPLY_TOKENIZERS names no folder of whole tokenizers")
@pytest.mark.parametrize("family", FAMILIES)
def test_extract_is_made_from_the_whole_tokenizer(family: str, expected: dict[str, list[list[int]]]) -> None:
    path = Path(str(WHOLE)) / family / "tokenizer.json"
    tool = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "make_tokenizer_extracts.py"))
    whole = encoded(load(path), telling_texts())
    small, ids = tool["extract"](
        json.loads(path.read_text(encoding="utf-8")), {token for row in whole for token in row}
    )
    assert small == json.loads((EXTRACTS / f"{family}.json").read_text(encoding="utf-8"))
    assert [[ids[token] for token in row] for row in whole] == expected[family]
