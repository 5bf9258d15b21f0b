"""The tier of a licence by its name on a model card."""

from __future__ import annotations

from lmsupply_cli.catalogue.entry import Tier

_PERMISSIVE = {"mit", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "unlicense"}
_CONDITIONAL = ("llama", "gemma", "openrail", "bigscience", "nvidia-open-model", "deepseek")
_RESEARCH = ("-nc", "non-commercial", "research")


def tier_of(licence: str) -> Tier:
    name = licence.lower()
    if name in _PERMISSIVE:
        return "permissive"
    if any(part in name for part in _RESEARCH):
        return "research"
    if any(part in name for part in _CONDITIONAL):
        return "conditional"
    return "unknown"
