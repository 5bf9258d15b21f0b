"""One model of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Tier = Literal["permissive", "conditional", "research", "unknown"]
TIERS: tuple[Tier, ...] = get_args(Tier)
GUIDE_REF = "guide"


@dataclass(frozen=True, slots=True)
class License:
    """`id`: SPDX where there is one, else the license's name; `tier`: "permissive", "conditional", "research" or
    "unknown"."""

    id: str
    tier: Tier
    url: str = ""
    restrictions: str = ""


UNKNOWN_LICENSE = License("unknown", "unknown")


@dataclass(frozen=True)
class CatalogueEntry:
    """The form of a row in models.toml, which says what each field is."""

    ref: str
    repo: str
    family: str
    parameters: float
    context_length: int
    license: License
    aliases: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    revision: str | None = None
    folder: str = ""
    layers: int | None = None
    kv_heads: int | None = None
    head_size: int | None = None
    prompt_format: str = ""
    uncertain: tuple[str, ...] = ()
    variants: Mapping[str, int] = field(default_factory=dict)

    def cache_bytes(self, tokens: int, *, bytes_each: int) -> int | None:
        """Of the KV cache for `tokens`, `bytes_each` a number: 4 on CPU builds, 2 on GPU builds."""
        if not (self.layers and self.kv_heads and self.head_size):
            return None
        return 2 * self.layers * self.kv_heads * self.head_size * bytes_each * tokens


GUIDE = CatalogueEntry(
    ref=GUIDE_REF,
    repo="",
    family="guide",
    parameters=0.0025,
    context_length=1024,
    license=License("MIT", "permissive"),
    layers=5,
    kv_heads=2,
    head_size=48,
    prompt_format="chatml",
)
