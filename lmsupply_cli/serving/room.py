"""Whether there is room for one more model, and which one has to go: decided from figures alone.

Only a model that nobody uses is evicted, the one that was used longest ago first; a pinned one never. None is evicted in
vain: if all idle ones together would not make room, the newcomer waits for those in use, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmsupply_cli.errors import DoesNotFit
from lmsupply_cli.memory.rough import MARGIN
from lmsupply_cli.units import count, format_bytes


@dataclass(frozen=True, slots=True)
class Occupant:
    """A model in memory. `bytes`: measured, or estimated; `in_use`: somebody uses it, or it is being loaded or unloaded;
    `pending_bytes`: what it will still take of the free memory; `last_used`: by any clock."""

    ref: str
    bytes: int
    in_use: bool = False
    pinned: bool = False
    last_used: float = 0.0
    pending_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """`bytes`: of all models together; `models`: how many; None for no limit."""

    bytes: int | None = None
    models: int | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """The model can be loaded now."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """This idle model has to go first."""

    ref: str
    reason: str


@dataclass(frozen=True, slots=True)
class Busy:
    """There will be room when these models are no longer in use. `refs`: the one used longest ago first."""

    refs: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """There will be no room."""

    message: str
    hint: str

    def error(self) -> DoesNotFit:
        """To raise."""
        return DoesNotFit(self.message, hint=self.hint)


def make_room(
    ref: str, need_bytes: int, held: Sequence[Occupant], limits: RoomLimits, free_bytes: int
) -> Room | Eviction | Busy | Refusal:
    """What has to happen before the model `ref` is loaded. `free_bytes`: of this machine now; a margin of it is kept."""
    if limits.bytes is not None and need_bytes > limits.bytes:
        return Refusal(
            f"{ref} needs {format_bytes(need_bytes)}, the pool's limit is {format_bytes(limits.bytes)}",
            "raise the memory limit, or use a smaller model",
        )
    reason = _obstacle(need_bytes, held, (), limits, free_bytes)
    if not reason:
        return Room()
    movable = sorted((model for model in held if not model.pinned), key=lambda model: model.last_used)
    idle = [model for model in movable if not model.in_use]
    if idle and not _obstacle(need_bytes, held, idle, limits, free_bytes):
        return Eviction(idle[0].ref, reason)
    in_use = tuple(model.ref for model in movable if model.in_use)
    if in_use and not _obstacle(need_bytes, held, movable, limits, free_bytes):
        return Busy(in_use, reason)
    pinned = sum(model.pinned for model in held)
    return Refusal(
        f"{ref} needs {format_bytes(need_bytes)}, but {reason}"
        + (f" and {count(pinned, 'model')} {'is' if pinned == 1 else 'are'} pinned" if pinned else ""),
        "close other programs, unpin a model, or use a smaller one",
    )


def overdrawn(held: Sequence[Occupant], limits: RoomLimits) -> Eviction | None:
    """The idle model to evict because those in memory grew beyond the limit."""
    total = sum(model.bytes for model in held)
    idle = [model for model in held if not model.in_use and not model.pinned]
    if limits.bytes is None or total <= limits.bytes or not idle or len(held) == 1:
        return None
    oldest = min(idle, key=lambda model: model.last_used)
    return Eviction(oldest.ref, f"the models take {format_bytes(total)} of {format_bytes(limits.bytes)}")


def _obstacle(
    need_bytes: int, held: Iterable[Occupant], gone: Iterable[Occupant], limits: RoomLimits, free_bytes: int
) -> str:
    """Why there is no room even without the models that are `gone`; "" if there is."""
    leaving = {model.ref for model in gone}
    stay = [model for model in held if model.ref not in leaving]
    taken = sum(model.bytes for model in stay)
    if limits.models is not None and len(stay) >= limits.models:
        return f"at most {count(limits.models, 'model')} may be loaded"
    if limits.bytes is not None and taken + need_bytes > limits.bytes:
        return f"only {format_bytes(limits.bytes - taken)} of the pool's {format_bytes(limits.bytes)} is free"
    freed = sum(model.bytes - model.pending_bytes for model in held if model.ref in leaving)
    free = free_bytes + freed - sum(model.pending_bytes for model in stay)
    if need_bytes > free * MARGIN:
        return f"only {format_bytes(max(0, free))} is free"
    return ""
