"""Character classes are ASCII in what the grammar library takes: as Python's re has them with re.ASCII."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsupply_cli.engine.fake import FakeModel
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.engine.regexes import with_ascii_classes

CHARACTERS = "a0_ -.]^\\[\n\té٣４日 \u2003"
CLASS = st.sampled_from([r"\d", r"\w", r"\s", r"\D", r"\W", r"\S"])
IN_CLASS = st.one_of(
    CLASS, st.sampled_from(["a", "0", "_", " ", "é", r"\-", r"\]", r"\[", r"\^", r"\\", r"\n", "0-9", "."])
)
SETS = st.builds(
    lambda inverted, first, parts: f"[{inverted}{first}{''.join(parts)}]",
    st.sampled_from(["", "^"]),
    st.sampled_from(["", "", "]"]),
    st.lists(IN_CLASS, min_size=1, max_size=4),
)
ATOMS = st.one_of(CLASS, SETS, st.sampled_from(["a", "é", r"\.", r"\[", r"\\", " "]))
PATTERNS = st.lists(
    st.builds(lambda atom, times: atom + times, ATOMS, st.sampled_from(["", "", "*", "?", "+", "{1,2}"])),
    min_size=1,
    max_size=4,
).map("".join)


@settings(max_examples=80, deadline=None)
@given(PATTERNS, st.lists(st.text(CHARACTERS, max_size=4), max_size=4))
def test_a_pattern_matches_what_it_matches_in_ascii(pattern: str, texts: list[str]) -> None:
    """The same texts, by Python without the flag and by the grammar library."""
    ascii_only = re.compile(pattern, re.ASCII)
    rewritten = with_ascii_classes(pattern)
    matcher = FakeModel().new_matcher(Guidance.regex(pattern))
    for text in [*texts, *CHARACTERS]:
        expected = ascii_only.fullmatch(text) is not None
        if not re.search(r"\\[DWS]", pattern):  # Python has no classes in classes
            assert (re.fullmatch(rewritten, text) is not None) == expected
        assert matcher.accepts(text) == expected, (pattern, rewritten, text)


@pytest.mark.parametrize(
    ("pattern", "rewritten"),
    [
        (r"\d+", "[0-9]+"),
        (r"[\d.]+", "[0-9.]+"),
        (r"\\d", r"\\d"),
        (r"[\\d]", r"[\\d]"),
        (r"[]\d]", r"[\]0-9]"),
        (r"[^]\d]", r"[^\]0-9]"),
        (r"\D", "[^0-9]"),
        (r"[a\D]", "[a[^0-9]]"),
        (r"\[\d\]", r"\[[0-9]\]"),
        (r"\p{L}\b", r"\p{L}\b"),
        ("(?u)\\d\\w", "\\d\\w"),
        ("abc\\", "abc\\"),
    ],
)
def test_how_they_are_written_out(pattern: str, rewritten: str) -> None:
    assert with_ascii_classes(pattern) == rewritten


@pytest.mark.parametrize(
    "make",
    [
        Guidance.regex,
        lambda pattern: Guidance.json_schema({"type": "string", "pattern": f"^{pattern}$"}),
        lambda pattern: Guidance.grammar(f"start: /{pattern}/"),
    ],
    ids=["regex", "schema", "grammar"],
)
def test_it_holds_in_every_kind_of_guidance(make) -> None:  # type: ignore[no-untyped-def]
    guidance, wide = make(r"\d{2}"), make(r"(?u)\d{2}")
    quote = '"' if guidance.kind == "json_schema" else ""
    matcher = FakeModel().new_matcher(guidance)
    assert matcher.accepts(f"{quote}12{quote}")
    assert not matcher.accepts(f"{quote}٣٣{quote}")
    if guidance.kind == "regex":
        check_guidance(wide)
        assert FakeModel().new_matcher(wide).accepts("٣٣")
