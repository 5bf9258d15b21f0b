"""Which model has to go: decisions from figures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.memory.rough import MARGIN
from lmsupply_cli.serving.room import (
    Busy,
    Eviction,
    Occupant,
    Refusal,
    Room,
    RoomLimits,
    make_room,
    overdrawn,
)

PLENTY = 10**15


def occupants(**bytes_of: int) -> list[Occupant]:
    return [Occupant(ref, size, last_used=at) for at, (ref, size) in enumerate(bytes_of.items())]


def test_the_one_used_longest_ago_goes_and_the_reason_is_told() -> None:
    step = make_room("c", 40, occupants(a=40, b=40), RoomLimits(bytes=100), PLENTY)
    assert step == Eviction("a", "only 20 B of the pool's 100 B is free")
    assert make_room("c", 40, occupants(b=40), RoomLimits(bytes=100), PLENTY) == Room()
    assert make_room("c", 1, occupants(a=1), RoomLimits(models=1), PLENTY) == Eviction(
        "a", "at most 1 model may be loaded"
    )
    assert make_room("c", 900, occupants(a=500), RoomLimits(), 600) == Eviction("a", "only 600 B is free")


def test_none_is_evicted_in_vain() -> None:
    held = [Occupant("idle", 20, last_used=1), Occupant("busy", 70, in_use=True, last_used=0)]
    assert make_room("c", 80, held, RoomLimits(bytes=100), PLENTY) == Busy(
        ("busy",), "only 10 B of the pool's 100 B is free"
    )
    held = [Occupant("idle", 20), Occupant("pinned", 70, pinned=True)]
    step = make_room("c", 80, held, RoomLimits(bytes=100), PLENTY)
    assert isinstance(step, Refusal)
    assert step.message == "c needs 80 B, but only 10 B of the pool's 100 B is free and 1 model is pinned"


def test_what_can_never_fit_is_refused() -> None:
    step = make_room("c", 101, [], RoomLimits(bytes=100), PLENTY)
    assert isinstance(step, Refusal)
    assert str(step.error()) == "c needs 101 B, the pool's limit is 100 B"


def test_a_model_that_loads_will_take_its_memory() -> None:
    held = [Occupant("loading", 500, in_use=True, pending_bytes=500)]
    assert isinstance(make_room("c", 600, held, RoomLimits(), 1000), Busy)
    assert make_room("c", 400, held, RoomLimits(), 1000) == Room()


def test_models_that_grew_beyond_the_limit() -> None:
    limits = RoomLimits(bytes=100)
    assert overdrawn(occupants(a=60, b=60), limits) == Eviction("a", "the models take 120 B of 100 B")
    assert overdrawn(occupants(a=50, b=50), limits) is None
    assert overdrawn(occupants(a=500, b=50), RoomLimits()) is None
    assert overdrawn([Occupant("a", 60, in_use=True), Occupant("b", 60, pinned=True)], limits) is None
    assert overdrawn(occupants(a=200), limits) is None, "one alone has a limit of its own"


sizes = st.integers(1, 100)
models = st.lists(
    st.builds(
        lambda size, in_use, pinned, at: (size, in_use, pinned, at),
        sizes,
        st.booleans(),
        st.booleans(),
        st.integers(0, 9),
    ),
    max_size=6,
)


@given(models, sizes, st.none() | st.integers(1, 300), st.none() | st.integers(1, 6), st.integers(0, 300))
def test_what_holds_for_every_decision(
    rows: list[tuple[int, bool, bool, int]], need: int, most_bytes: int | None, most_models: int | None, free: int
) -> None:
    held = [
        Occupant(f"m{at}", size, in_use=used, pinned=pinned, last_used=when)
        for at, (size, used, pinned, when) in enumerate(rows)
    ]
    limits = RoomLimits(most_bytes, most_models)
    evicted = []
    while isinstance(step := make_room("new", need, held, limits, free), Eviction):
        gone = next(model for model in held if model.ref == step.ref)
        assert not gone.in_use
        assert not gone.pinned
        assert gone.last_used == min(m.last_used for m in held if not m.in_use and not m.pinned)
        held.remove(gone)
        free += gone.bytes
        evicted.append(gone)
    if evicted:
        assert step == Room(), "none was evicted in vain"
    if step == Room():
        assert most_bytes is None or sum(m.bytes for m in held) + need <= most_bytes
        assert most_models is None or len(held) < most_models
        assert need <= free * MARGIN
    if isinstance(step, Busy):
        assert step.refs
        assert all(m.in_use and not m.pinned for m in held if m.ref in step.refs)
