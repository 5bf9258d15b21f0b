"""Which cache a prompt is read into: decisions from figures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.serving.places import PlaceChoice, PlaceState, choose_place

PLENTY = 10**12


def place(
    held: int, shared: int, *, lost: int | None = None, fits: bool = True, bytes: int = 100, used: int = 0
) -> PlaceState:
    return PlaceState(held, shared, held - shared if lost is None else lost, fits, bytes, used)


def chosen(*idle: PlaceState, returns: bool = False, free_bytes: int = PLENTY, free_places: int = 9) -> PlaceChoice:
    return choose_place(idle, new_bytes=100, free_bytes=free_bytes, free_places=free_places, returns=returns)


def test_the_longest_prefix_wins() -> None:
    assert chosen(place(400, 300), place(900, 900), place(800, 700)) == PlaceChoice(1)
    assert chosen() == PlaceChoice(None)


def test_a_cache_is_taken_over_where_more_is_saved_than_lost() -> None:
    assert chosen(place(1000, 600)) == PlaceChoice(0)
    assert chosen(place(1000, 100)) == PlaceChoice(None)
    assert chosen(place(1000, 600), returns=True) == PlaceChoice(None)
    assert chosen(place(1000, 100, lost=0), returns=True) == PlaceChoice(0)


def test_one_without_room_is_not_taken_and_goes_where_it_was_outgrown() -> None:
    assert chosen(place(500, 500, fits=False)) == PlaceChoice(None, (0,))
    assert chosen(place(500, 100, fits=False)) == PlaceChoice(None)


def test_what_was_used_longest_ago_makes_room() -> None:
    old, new = place(500, 5, used=1, fits=False), place(400, 5, used=2)
    assert chosen(new, old, free_bytes=50) == PlaceChoice(None, (1,))
    assert chosen(new, old, free_places=0) == PlaceChoice(None, (1,))
    older = place(500, 5, used=1)
    assert chosen(new, older, free_bytes=50) == PlaceChoice(1), "its memory is used as it is"
    assert chosen(new, old, free_bytes=-150) == PlaceChoice(None, (1, 0))


states = st.builds(
    place,
    st.integers(0, 2000),
    st.integers(0, 2000),
    lost=st.integers(0, 2000),
    fits=st.booleans(),
    bytes=st.integers(0, 500),
    used=st.integers(0, 50),
)


@given(st.lists(states, max_size=6), st.integers(-500, 2000), st.integers(0, 3), st.booleans())
def test_a_choice_can_always_be_carried_out(
    idle: list[PlaceState], free_bytes: int, free_places: int, returns: bool
) -> None:
    found = choose_place(idle, new_bytes=300, free_bytes=free_bytes, free_places=free_places, returns=returns)
    assert len(set(found.evict)) == len(found.evict)
    if found.take is not None:
        assert idle[found.take].fits
        assert found.evict == ()
        return
    left = free_bytes + sum(idle[number].bytes for number in found.evict)
    everything = {number for number, _ in enumerate(idle)}
    assert left >= 300 or set(found.evict) == everything
    assert free_places + len(found.evict) > 0 or set(found.evict) == everything
