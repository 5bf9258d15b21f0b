"""Prompts to fill in the middle: the marks are tokens, and what stands between them never is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lmsupply_cli.chat.control import control_strings
from lmsupply_cli.chat.formats import FAMILIES
from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.chat.infill import infill
from lmsupply_cli.engine.tokenizer import encode_with, load_library
from lmsupply_cli.errors import UsageError

TOKENIZERS = Path(__file__).parent.parent / "data" / "tokenizers"


def words(control: set[str]) -> Callable[[str], list[int]]:
    """An encoder with a token for each control string, and one for each other character."""
    marks = sorted(control)

    def encode(text: str) -> list[int]:
        return [marks.index(text)] if text in control else [1000 + ord(char) for char in text]

    return encode


def test_the_marks_of_a_real_vocabulary() -> None:
    path = TOKENIZERS / "qwen25.json"
    library = load_library(path)
    rows = json.loads(path.read_text("utf-8"))["added_tokens"]
    format = PromptFormat(FAMILIES["qwen"](frozenset()), control_strings(rows))

    prompt = infill(format, "def f(", "return x<|fim_middle|>", lambda text: encode_with(library, text))

    marks = {row["content"]: row["id"] for row in rows}
    assert prompt.text == "<|fim_prefix|>def f(<|fim_suffix|>return x<|fim_middle|><|fim_middle|>"
    assert prompt.ids[0] == marks["<|fim_prefix|>"]
    assert prompt.ids[-1] == marks["<|fim_middle|>"]
    assert prompt.ids.count(marks["<|fim_middle|>"]) == 1, "the one in the suffix is text"
    assert {marks["<|fim_prefix|>"], marks["<|endoftext|>"]} <= prompt.stop_ids
    assert prompt.continues


@pytest.mark.parametrize(
    ("control", "text"),
    [
        ({"<fim_prefix>", "<fim_suffix>", "<fim_middle>"}, "<fim_prefix>a<fim_suffix>b<fim_middle>"),
        ({"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"}, "<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>"),
        ({"▁<PRE>", "▁<SUF>", "▁<MID>"}, "▁<PRE>a▁<SUF>b▁<MID>"),
        ({"[PREFIX]", "[SUFFIX]"}, "[SUFFIX]b[PREFIX]a"),
    ],
)
def test_each_form(control: set[str], text: str) -> None:
    encode = words(control)
    prompt = infill(PromptFormat(FAMILIES["generic"](frozenset()), frozenset(control)), "a", "b", encode)
    assert prompt.text == text
    assert sum(token < 1000 for token in prompt.ids) == len(control)


def test_an_empty_prefix_or_suffix_leaves_the_marks() -> None:
    control = {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"}
    prompt = infill(PromptFormat(FAMILIES["generic"](frozenset()), frozenset(control)), "", "", words(control))
    assert prompt.text == "<fim_prefix><fim_suffix><fim_middle>"
    assert len(prompt.ids) == 3


def test_a_vocabulary_without_the_marks_is_named() -> None:
    with pytest.raises(UsageError, match="no tokens to fill in the middle") as raised:
        infill(PromptFormat(FAMILIES["generic"](frozenset()), frozenset({"</s>"})), "a", "b", words({"</s>"}))
    assert raised.value.param == "suffix"
