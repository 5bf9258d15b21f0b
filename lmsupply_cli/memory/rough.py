"""Whether a catalogue model should fit, by the size of its files, before any of them is downloaded."""

from __future__ import annotations

from lmsupply_cli.catalogue.entry import CatalogueEntry

CONTEXT_TOKENS = 4096  # the least context that a useful chat needs
MARGIN = 0.9  # of the budget is planned with; the rest is for what nobody foresees
PACKED = 1.36  # bytes in memory for each of the weights' in a file, as the engine packs them anew
PROCESS_BYTES = 75_000_000


def needed_bytes(entry: CatalogueEntry, size_bytes: int) -> int:
    """A rough need on the CPU: weights as they are held, a cache for 4,096 tokens in fp32, and the process."""
    cache = entry.cache_bytes(min(CONTEXT_TOKENS, entry.context_length), bytes_each=4) or 0
    return int(PACKED * size_bytes) + cache + PROCESS_BYTES


def roughly_fits(entry: CatalogueEntry, size_bytes: int | None, available_bytes: int) -> bool | None:
    """None where the size is not known."""
    return needed_bytes(entry, size_bytes) <= available_bytes if size_bytes else None


def largest_context(entry: CatalogueEntry, size_bytes: int | None, available_bytes: int) -> int | None:
    """Tokens of cache that fit beside the weights, at most the model's own; None where a figure is unknown, 0 where none."""
    token = entry.cache_bytes(1, bytes_each=4)
    if not size_bytes or not token:
        return None
    room = int(available_bytes * MARGIN) - int(PACKED * size_bytes) - PROCESS_BYTES
    return max(0, min(entry.context_length, room // token))
