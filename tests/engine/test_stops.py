from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.engine.ending import StopSequenceDetector

ALPHABET = "ab<|é🏳"


def run(stops: list[str], pieces: list[str]) -> tuple[str, str | None]:
    matcher = StopSequenceDetector(stops)
    out = "".join(matcher.push(piece) for piece in pieces)
    return out + matcher.flush(), matcher.matched


def reference(stops: list[str], text: str) -> tuple[str, str | None]:
    """Character by character: the first place where any stop ends, the longest of those."""
    for end in range(1, len(text) + 1):
        ended = [s for s in stops if s and text[:end].endswith(s)]
        if ended:
            stop = max(ended, key=len)
            return text[: end - len(stop)], stop
    return text, None


@given(st.lists(st.text(ALPHABET, max_size=4), max_size=4), st.text(ALPHABET, max_size=40), st.data())
def test_any_chunking_gives_the_same_as_the_whole_text(stops: list[str], text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert run(stops, pieces) == reference(stops, text)


@pytest.mark.parametrize(
    ("stops", "pieces", "shown"),
    [
        (["END"], ["x", "E", "N", "D", "y"], ["x", "", "", "", ""]),
        (["END"], ["x", "E", "x"], ["x", "", "Ex"]),
        (["aab"], ["aa", "a", "b"], ["", "a", ""]),
        (["🏳️"], ["🏳", "x"], ["", "🏳x"]),
        ([], ["abc"], ["abc"]),
    ],
)
def test_only_what_could_be_a_stop_is_held_back(stops: list[str], pieces: list[str], shown: list[str]) -> None:
    matcher = StopSequenceDetector(stops)
    assert [matcher.push(piece) for piece in pieces] == shown
