from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.engine.prefill import LEAST, plan_chunks, plan_reuse

IDS = st.lists(st.integers(0, 3), max_size=12)


@given(IDS, IDS.filter(bool))
def test_the_plan_makes_the_wanted_sequence_and_always_appends(cached: list[int], wanted: list[int]) -> None:
    plan = plan_reuse(cached, wanted)
    assert cached[: plan.rewind_to] + list(plan.append) == wanted
    assert len(plan.append) >= min(LEAST, len(wanted))
    if plan.rewind_to < len(wanted) - LEAST:  # nothing more could have been kept
        assert plan.rewind_to == len(cached) or cached[plan.rewind_to] != wanted[plan.rewind_to]


@given(st.integers(0, 500), st.integers(1, 70), st.integers(0, 100))
def test_no_piece_of_a_prompt_is_short_where_there_are_as_many_tokens(count: int, chunk: int, first: int) -> None:
    sizes = list(plan_chunks(count, chunk=chunk, first=first))
    assert sum(sizes) == count
    if not count:
        return
    assert sizes[0] >= min(count, first), "the first is as long as it has to be"
    assert sizes[-1] >= min(count, LEAST)
    if chunk >= 2 * LEAST:
        assert min(sizes) >= min(count, LEAST)
        assert max(sizes) <= max(chunk, first) + LEAST - 1


def test_pieces_are_as_long_as_they_may_be() -> None:
    assert list(plan_chunks(40, chunk=16)) == [16, 16, 8]
    assert list(plan_chunks(33, chunk=16)) == [16, 12, 5]
    assert list(plan_chunks(3, chunk=16)) == [3]
    assert list(plan_chunks(100, chunk=16, first=65)) == [65, 16, 12, 7]
    assert list(plan_chunks(66, chunk=16, first=65)) == [66]
