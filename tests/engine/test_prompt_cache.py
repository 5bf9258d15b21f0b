from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.engine.prompt_cache import plan_reuse

IDS = st.lists(st.integers(0, 3), max_size=12)


@given(IDS, IDS.filter(bool))
def test_the_plan_makes_the_wanted_sequence_and_always_appends(cached: list[int], wanted: list[int]) -> None:
    plan = plan_reuse(cached, wanted)
    assert cached[: plan.rewind_to] + list(plan.append) == wanted
    assert plan.append
    if plan.rewind_to < len(wanted) - 1:  # nothing more could have been kept
        assert plan.rewind_to == len(cached) or cached[plan.rewind_to] != wanted[plan.rewind_to]
