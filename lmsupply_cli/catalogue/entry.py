"""One model of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmsupply_cli.config.table import TIERS as TIERS
from lmsupply_cli.config.table import Tier as Tier

GUIDE_REF = "guide"


_LICENSES = (
    {
        name.lower(): name
        for name in (
            "MIT",
            "Apache-2.0",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "ISC",
            "CC0-1.0",
            "Unlicense",
            "CC-BY-4.0",
            "CC-BY-NC-4.0",
        )
    }
    | {  # as model cards on the Hub spell them
        f"llama{version}": f"Llama-{version}" for version in ("2", "3", "3.1", "3.2", "3.3", "4")
    }
    | {"gemma": "Gemma"}
)


def license_id(name: str) -> str:
    """The name of a license as lmsupply spells it."""
    return _LICENSES.get(name.lower(), name)


@dataclass(frozen=True, slots=True)
class License:
    """`id`: the SPDX identifier if there is one, else the license's name; `tier`: "permissive", "conditional",
    "research" or "unknown"."""

    id: str
    tier: Tier
    url: str = ""
    restrictions: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", license_id(self.id))

    @property
    def label(self) -> str:
        """For people: `Apache-2.0 (permissive)`."""
        return "no license stated" if self.id == "unknown" else f"{self.id} ({self.tier})"

    @property
    def name(self) -> str:
        """For people, without the tier: `Apache-2.0`."""
        return "not stated" if self.id == "unknown" else self.id

    @property
    def terms(self) -> str:
        """The label, and what the license restricts."""
        return f"{self.label}: {self.restrictions}" if self.restrictions else self.label

    def as_dict(self) -> dict[str, str | None]:
        """As JSON values."""
        return {
            "id": self.id,
            "tier": self.tier,
            "url": self.url or None,
            "restrictions": self.restrictions or None,
        }


UNKNOWN_LICENSE = License("unknown", "unknown")


@dataclass(frozen=True)
class CatalogueEntry:
    """A row of models.toml, which describes each field."""

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
        """Size of the KV cache for `tokens`; `bytes_each`: bytes per number, 4 on CPU builds, 2 on GPU builds."""
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
