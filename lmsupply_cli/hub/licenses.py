"""The license of a model: its tier by its name on a model card, and the one that counts of several."""

from __future__ import annotations

from collections.abc import Iterable

from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE, CatalogueEntry, License, Tier
from lmsupply_cli.hub.tree import RepoTree

_PERMISSIVE = {"mit", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "unlicense"}
_CONDITIONAL = ("llama", "gemma", "openrail", "bigscience", "nvidia-open-model", "deepseek")
_RESEARCH = ("-nc", "non-commercial", "research")
_STRICTER: tuple[Tier, ...] = ("permissive", "conditional", "unknown", "research")


def tier_of(license: str) -> Tier:
    name = license.lower()
    if name in _PERMISSIVE:
        return "permissive"
    if any(part in name for part in _RESEARCH):
        return "research"
    if any(part in name for part in _CONDITIONAL):
        return "conditional"
    return "unknown"


def license_of(tree: RepoTree, entry: CatalogueEntry | None) -> License:
    """What the catalogue says of the model, if it is an entry, else the repo itself."""
    return entry.license if entry else License(tree.license or "unknown", tier_of(tree.license), tree.license_url)


def strictest_license(licenses: Iterable[License]) -> License:
    """The one that counts of several, of equal ones the first."""
    return max(licenses, key=lambda license: _STRICTER.index(license.tier), default=UNKNOWN_LICENSE)


def strictest(licenses: Iterable[str]) -> str:
    """The license that counts for a model with several: the strictest; "" if there are none."""
    return max(licenses, key=lambda license: _STRICTER.index(tier_of(license)), default="")
