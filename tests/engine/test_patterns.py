"""Which regular expressions of a tokenizer.json the engine is trusted with."""

from __future__ import annotations

from typing import Any

import pytest

from lmsupply_cli.engine.patterns import find_patterns, unknown_pattern

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize("pattern", [GPT2, LLAMA3, QWEN2, O200K, r"\p{N}{1,3}"])
def test_those_of_the_common_families_are_known(pattern: str) -> None:
    assert unknown_pattern((pattern,)) == ""


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", ".*", "", "|", LLAMA3 + "|(a+)+$", "(a+)+|" + LLAMA3, f"({LLAMA3})+", LLAMA3 + "+"]
)
def test_every_other_one_is_not(pattern: str) -> None:
    assert unknown_pattern((LLAMA3, pattern)) == pattern


def test_they_are_found_in_every_part_and_at_every_depth() -> None:
    deep: Any = {"type": "Split", "pattern": {"Regex": "deep"}}
    for _ in range(5000):
        deep = {"pretokenizers": [deep]}
    tokenizer = {
        "normalizer": {"type": "Replace", "pattern": {"Regex": "x+"}, "content": ""},
        "pre_tokenizer": deep,
        "decoder": {"type": "Replace", "pattern": {"String": "y"}},
        "model": {"vocab": {"Regex": 1}},
    }
    assert find_patterns(tokenizer) == ("x+", "deep")
    assert find_patterns([]) == ()
    assert find_patterns({"pre_tokenizer": "?"}) == ()
