"""Which KV cache a prompt is read into: decisions only, on figures.

The engine can neither copy a cache nor give a part of one to another sequence. So a prompt that begins like a
conversation that is cached either takes that cache over, and its end is lost, or is read as a whole into another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmsupply_cli.engine.base import PREFILL_CHUNK
from lmsupply_cli.generation.batch_plan import NOTABLE_TOKENS

_LOSS, _LOSS_IF_RETURNS = 0.5, 4.0  # of a token that is lost, against one that need not be read
_MOSTLY = 4  # a conversation that needs a larger place leaves one of which it used so many times more than it did not


@dataclass(frozen=True, slots=True)
class PlaceState:
    """A cache that is idle: it holds `held` tokens, of which a prompt would use `shared`, and `lost` would be lost that
    another conversation might want; `fits`: it has room for the prompt and its answer; `bytes` of memory; `used`: a larger
    number was used later."""

    held: int
    shared: int
    lost: int
    fits: bool
    bytes: int
    used: int


@dataclass(frozen=True, slots=True)
class PlaceChoice:
    """`take`: the number of an idle place, None for a new one; `evict`: places that go before."""

    take: int | None
    evict: tuple[int, ...] = ()


def choose_place(
    idle: Sequence[PlaceState], *, new_bytes: int, free_bytes: int, free_places: int, returns: bool = False
) -> PlaceChoice:
    """By the tokens that need not be read against those that are lost. `new_bytes`: of a new place, of which
    `free_places` more may be made; `free_bytes`: what is left of the budget; `returns`: the conversation was cached
    before, and lost its cache to another one."""
    outgrown = [number for number, one in enumerate(idle) if not one.fits and one.shared > _MOSTLY * one.lost]
    free_bytes += sum(idle[number].bytes for number in outgrown)
    free_places += len(outgrown)
    others = [number for number in range(len(idle)) if number not in outgrown]
    evicted = _evicted(idle, others, new_bytes=new_bytes, free_bytes=free_bytes, free_places=free_places)
    fresh_score = -_LOSS * sum(idle[number].held for number in evicted)
    weight = _LOSS_IF_RETURNS if returns else _LOSS
    scores = [
        (one.shared - weight * one.lost, one.used, number)
        for number, one in enumerate(idle)
        if one.fits and (one.shared > NOTABLE_TOKENS or one.lost <= NOTABLE_TOKENS)
    ]
    best, _, number = max(scores, default=(-float("inf"), 0, 0))
    if best >= fresh_score:
        return PlaceChoice(number)
    if not outgrown and len(evicted) == 1 and idle[evicted[0]].fits:
        return PlaceChoice(evicted[0])  # as good as a new one, and its memory is there
    return PlaceChoice(None, (*outgrown, *evicted))


def _evicted(
    idle: Sequence[PlaceState], numbers: Sequence[int], *, new_bytes: int, free_bytes: int, free_places: int
) -> list[int]:
    """Of `numbers` those used longest ago, until there is room; all of them where that is not enough."""
    gone: list[int] = []
    for number in sorted(numbers, key=lambda number: idle[number].used):
        if new_bytes <= free_bytes and free_places > 0:
            break
        gone.append(number)
        free_bytes += idle[number].bytes
        free_places += 1
    return gone


@dataclass(frozen=True, slots=True)
class BusyPlace:
    """A place whose answer is being written, as a prompt sees it that waits: it will hold `held` tokens at least, of which
    the prompt would use `shared`; `since`: seconds since all of these have been read, None while they are being read."""

    held: int
    shared: int
    since: float | None


def worth_waiting(busy: Iterable[BusyPlace], *, cached: int, read_s: float) -> bool:
    """Whether a prompt that could be read now should wait for one of `busy`: it begins with what is being read there, and
    would take that place over. It waits no longer than reading takes, at `read_s` a token. `cached`: tokens that it would
    find elsewhere."""
    for one in busy:
        saved = one.shared - cached
        taken_over = one.shared - _LOSS * (one.held - one.shared) > cached
        if saved > PREFILL_CHUNK and taken_over and (one.since is None or one.since < saved * read_s):
            return True
    return False
