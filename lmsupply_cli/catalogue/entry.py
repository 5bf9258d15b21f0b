"""One model of the catalogue, and how it is found by what the user types."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

Tier = Literal["permissive", "conditional", "research", "unknown"]
GUIDE_REF = "guide"


@dataclass(frozen=True, slots=True)
class Licence:
    id: str
    tier: Tier
    url: str = ""
    restrictions: str = ""


UNKNOWN_LICENCE = Licence("unknown", "unknown")


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """`parameters` in billions, `context_length` in tokens, `size_bytes` of the int4 CPU variant."""

    ref: str
    repo: str
    family: str
    parameters: float
    context_length: int
    licence: Licence
    aliases: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    size_bytes: int | None = None
    approximate: bool = False


GUIDE = CatalogueEntry(
    ref=GUIDE_REF, repo="", family="guide", parameters=0.0025, context_length=1024, licence=Licence("MIT", "permissive")
)


@cache
def read_catalogue() -> tuple[CatalogueEntry, ...]:
    """Every entry, the built-in guide first."""
    text = resources.files(__package__).joinpath("models.toml").read_text(encoding="utf-8")
    return (GUIDE, *(_entry(row) for row in tomllib.loads(text)["model"]))


def find_entry(name: str) -> CatalogueEntry | None:
    """The entry that is called exactly `name`: its ref or an alias, in any case, or `role:…`."""
    wanted = name.lower()
    for entry in read_catalogue():
        if wanted in (entry.ref, *entry.aliases) or wanted in {f"role:{role}" for role in entry.roles}:
            return entry
    return None


def entry_of_repo(repo: str) -> CatalogueEntry | None:
    return next((e for e in read_catalogue() if e.repo and e.repo.lower() == repo.lower()), None)


def closest(name: str, others: list[str]) -> str:
    """A name of the catalogue or of `others` that `name` may have meant, or ""."""
    from difflib import get_close_matches

    names = {_bare(n): n for n in [*others, *(n for e in read_catalogue() for n in (e.ref, *e.aliases))]}
    near = get_close_matches(_bare(name), names, n=1, cutoff=0.6)
    return names[near[0]] if near else ""


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _entry(row: dict[str, Any]) -> CatalogueEntry:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return CatalogueEntry(**(values | {"licence": Licence(**row["licence"])}))
