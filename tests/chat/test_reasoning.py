"""Thoughts are told apart from the answer, however the text arrives."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.chat.reasoning import Markers, find_markers, make_splitter

THINK = Markers("think", frozenset())
CHANNELS = Markers("channels", frozenset())
CASES = [
    (THINK, "", "<think>\nA greeting.\n</think>\n\nHi there", "A greeting.", "Hi there"),
    (THINK, "…<think>\n", "A greeting.\n</think>\n\nHi there", "A greeting.", "Hi there"),
    (THINK, "", "\n <think>a <b> c</think>d", "a <b> c", "d"),
    (THINK, "", "<think>\n\n</think>\n\nHi", "", "Hi"),
    (THINK, "<think>\n\n</think>\n\n", "Hi </think> x", "", "Hi </think> x"),
    (THINK, "", "Hi there\n", "", "Hi there\n"),
    (THINK, "", "< thinking", "", "< thinking"),
    (THINK, "", "write <think> there", "", "write <think> there"),
    (THINK, "", "a thought without its beginning</think>\n\nHi", "a thought without its beginning", "Hi"),
    (THINK, "", "Use `</think>` to end it. Bye", "", "Use `</think>` to end it. Bye"),
    (THINK, "", "``a ` </think>`` b", "", "``a ` </think>`` b"),
    (THINK, "", "```xml\n<think>\n</think>\n```\nis it", "", "```xml\n<think>\n</think>\n```\nis it"),
    (THINK, "", "a `code` thought\n```\nx\n```\n</think>\n\nHi", "a `code` thought\n```\nx\n```\n", "Hi"),
    (THINK, "", "it's a ` mark\nand more</think>Hi", "it's a ` mark\nand more", "Hi"),
    (THINK, "", "<think>never ends </thin", "never ends </thin", ""),
    (THINK, "", "<thin", "", "<thin"),
    (THINK, "", "", "", ""),
    (THINK, "", " \n", "", " \n"),
    (None, "", "<think>not known to think</think> yes", "not known to think", "yes"),
    (None, "", " no </think> thought", "", " no </think> thought"),
    (None, "", "<thin air", "", "<thin air"),
    (
        CHANNELS,
        "",
        "<|channel|>analysis<|message|>A greeting.<|end|><|start|>assistant<|channel|>final<|message|>Hi there",
        "A greeting.",
        "Hi there",
    ),
    (CHANNELS, "", "<|channel|>commentary to=x<|message|>call<|end|>", "call", ""),
    (CHANNELS, "", "<|channel|>final<|message|>Hi<|return|>", "", "Hi"),
    (CHANNELS, "", "plain <| text", "", "plain <| text"),
]


@pytest.mark.parametrize(("markers", "prompt", "said", "reasoning", "text"), CASES)
@given(cuts=st.lists(st.integers(0, 120), max_size=12))
def test_under_any_chunking(
    markers: Markers | None, prompt: str, said: str, reasoning: str, text: str, cuts: list[int]
) -> None:
    places = sorted({0, len(said), *(cut % (len(said) + 1) for cut in cuts)})
    splitter = make_splitter(markers, prompt)
    pieces = [p for a, b in itertools.pairwise(places) for p in splitter.push(said[a:b])]
    pieces += splitter.flush()
    found = {"text": "", "reasoning": ""}
    for piece in pieces:
        if piece.kind == "retract":
            found = {"reasoning": found["reasoning"] + found["text"], "text": ""}
        else:
            found[piece.kind] += piece.text
    assert found == {"text": text, "reasoning": reasoning}


def test_who_has_marks() -> None:
    assert find_markers(["<|im_start|>"]) is None
    assert find_markers(["<think>", "</think>", "<x>"]) == Markers("think", frozenset({"<think>", "</think>"}))
    assert find_markers([], "{{ '<think>' }}") == Markers("think", frozenset())
    found = find_markers(["<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|user|>"])
    assert found is not None
    assert found.style == "channels"
    assert "<|user|>" not in found.visible
