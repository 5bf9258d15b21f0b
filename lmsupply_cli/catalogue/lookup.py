"""The catalogue: what ships, what the user added, and finding a model by what was typed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import GUIDE, TIERS, CatalogueEntry, Licence
from lmsupply_cli.errors import SettingsError


def read_catalogue() -> tuple[CatalogueEntry, ...]:
    """The guide, the user's own entries (models.toml in the config folder), then what ships.

    An entry of the user's takes the place of one with the same ref. Raises SettingsError.
    """
    file = paths.config_dir() / "models.toml"
    try:
        stamp = file.stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _read(file, stamp)


@lru_cache(maxsize=4)
def _read(file: Path, stamp: int) -> tuple[CatalogueEntry, ...]:
    shipped = tomllib.loads(resources.files(__package__).joinpath("models.toml").read_text(encoding="utf-8"))
    ours = [_entry(row, shipped["licences"]) for row in shipped["model"]]
    own = _own(file, shipped["licences"]) if stamp else []
    taken = {entry.ref for entry in own}
    return (GUIDE, *own, *(entry for entry in ours if entry.ref not in taken))


def find_entry(name: str) -> CatalogueEntry | None:
    """The entry that is called exactly `name`: its ref or an alias, in any case, or `role:…`."""
    wanted = name.lower()
    for entry in read_catalogue():
        if wanted in (entry.ref, *entry.aliases) or wanted in {f"role:{role}" for role in entry.roles}:
            return entry
    return None


def forgiving_entry(name: str) -> CatalogueEntry | None:
    """As `find_entry`, but punctuation does not matter: `phi3.5`, `Qwen3_4B`."""
    exact = find_entry(name)
    if exact:
        return exact
    wanted = _bare(name)
    found = [e for e in read_catalogue() if wanted and wanted in map(_bare, (e.ref, *e.aliases))]
    return found[0] if len(found) == 1 else None


def entry_of_repo(repo: str, folder: str = "") -> CatalogueEntry | None:
    """The entry of `repo`; of several in one repo, the one whose folder `folder` lies in."""
    entries = [e for e in read_catalogue() if e.repo and e.repo.lower() == repo.lower()]
    if folder:
        entries = [e for e in entries if not e.folder or folder.startswith(e.folder)]
    return entries[0] if len(entries) == 1 else None


def closest(name: str, others: Iterable[str] = ()) -> str:
    """A name of the catalogue or of `others` that `name` may have meant, or ""."""
    from difflib import get_close_matches

    names = {_bare(n): n for n in [*others, *(n for e in read_catalogue() for n in (e.ref, *e.aliases))]}
    near = get_close_matches(_bare(name), names, n=1, cutoff=0.6)
    return names[near[0]] if near else ""


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _own(file: Path, licences: Mapping[str, Any]) -> list[CatalogueEntry]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        return [_entry(row, {**licences, **data.get("licences", {})}) for row in data.get("model", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise SettingsError(
            f"{file}: {text}", hint="entries have the form of the catalogue: see lmsupply show --json"
        ) from error


def _entry(row: Mapping[str, Any], licences: Mapping[str, Any]) -> CatalogueEntry:
    """A row as an entry. Raises KeyError, TypeError, ValueError."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    unknown = set(values) - {f.name for f in fields(CatalogueEntry)}
    if unknown:
        raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
    for key in ("ref", "repo", "family", "licence", "parameters", "context_length"):
        values[key]  # says which one is missing
    name = values["licence"]
    known = licences.get(name, {"tier": "unknown"})
    if known["tier"] not in TIERS:
        raise ValueError(f"licence {name} has the tier {known['tier']}, not one of {', '.join(TIERS)}")
    return CatalogueEntry(**(values | {"ref": values["ref"].lower(), "licence": Licence(name, **known)}))
