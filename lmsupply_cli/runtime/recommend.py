"""Which model to pull on this machine: a value with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from lmsupply_cli.catalogue.entry import CatalogueEntry, find_entry
from lmsupply_cli.units import format_bytes

# Available memory that a model wants: its int4 weights, a cache for 4,096 tokens and some room.
_NEEDS = (("phi-3.5", 7_000_000_000), ("qwen3-1.7b", 3_500_000_000), ("qwen3-0.6b", 0))


@dataclass(frozen=True, slots=True)
class Recommendation:
    entry: CatalogueEntry
    reason: str


def recommend_model(available_bytes: int) -> Recommendation:
    for ref, needed in _NEEDS:
        entry = find_entry(ref)
        if entry is not None and available_bytes >= needed:
            wanted = f"wants {format_bytes(needed)}" if needed else "is the smallest"
            return Recommendation(entry, f"{format_bytes(available_bytes)} of memory are free and it {wanted}")
    raise AssertionError("the last row needs nothing")
