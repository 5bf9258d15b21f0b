"""The catalogue: what ships, what the user added, and finding a model by what was typed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import GUIDE, CatalogueEntry
from lmsupply_cli.catalogue.own import Skipped, read_own
from lmsupply_cli.catalogue.roles import ROLES, roles_of, unknown_role
from lmsupply_cli.catalogue.rows import entry_of
from lmsupply_cli.errors import SettingsError


def read_catalogue() -> tuple[CatalogueEntry, ...]:
    """The guide, the user's own entries (models.toml in the config folder), then what ships.

    An entry of the user's takes the place of one with the same ref. One that cannot be used is left out: see
    `read_skipped`.
    """
    return _read()[0]


def read_skipped() -> tuple[str, ...]:
    """What was left out of the user's models.toml, and why: a line each, with the place."""
    return tuple(skipped.text for skipped in _read()[1])


def _read() -> tuple[tuple[CatalogueEntry, ...], tuple[Skipped, ...]]:
    file = paths.config_dir() / "models.toml"
    try:
        found = file.stat()
        stamp = (found.st_mtime_ns, found.st_size)
    except (OSError, ValueError):
        stamp = (0, 0)
    return _read_at(file, stamp)


@lru_cache(maxsize=4)
def _read_at(file: Path, stamp: tuple[int, int]) -> tuple[tuple[CatalogueEntry, ...], tuple[Skipped, ...]]:
    shipped = tomllib.loads(Path(__file__).with_name("models.toml").read_text(encoding="utf-8"))
    ours = [entry_of(row | {"roles": list(roles_of(row["ref"]))}, shipped["licenses"]) for row in shipped["model"]]
    own, skipped = read_own(file, shipped["licenses"])
    taken = {entry.ref for entry in own}
    return (GUIDE, *own, *(entry for entry in ours if entry.ref not in taken)), tuple(skipped)


def find_entry(name: str) -> CatalogueEntry | None:
    """The entry whose ref or alias is `name`, ignoring case, or the best one for `role:…`.

    Raises SettingsError if the user's own entry of that name cannot be used, ModelNotFound for an unknown role.
    """
    wanted = name.lower()
    for skipped in _read()[1]:
        if skipped.ref == wanted:
            raise SettingsError(skipped.text, hint="entries have the form of the catalogue: see lmsupply show --json")
    for entry in read_catalogue():
        if wanted in (entry.ref, *entry.aliases):
            return entry
    return None


def entries_of_role(name: str) -> list[CatalogueEntry]:
    """The models for a role, in order of preference: the user's own, then the built-in ones. Raises ModelNotFound."""
    entries = {entry.ref: entry for entry in read_catalogue()}
    ours = next((role.refs for role in ROLES if role.name == name), ())
    own = [entry for entry in entries.values() if name in entry.roles and entry.ref not in ours]
    found = [*own, *(entries[ref] for ref in ours)]
    if not found:
        raise unknown_role(name, [*(role.name for role in ROLES), *(r for e in entries.values() for r in e.roles)])
    return found


def forgiving_entry(name: str) -> CatalogueEntry | None:
    """As `find_entry`, but punctuation does not matter: `phi3.5`, `Qwen3_4B`."""
    exact = find_entry(name)
    if exact:
        return exact
    wanted = bare_name(name)
    found = [e for e in read_catalogue() if wanted and wanted in map(bare_name, (e.ref, *e.aliases))]
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

    names = {bare_name(n): n for n in [*others, *(n for e in read_catalogue() for n in (e.ref, *e.aliases))]}
    near = get_close_matches(bare_name(name), names, n=1, cutoff=0.6)
    return names[near[0]] if near else ""


def bare_name(name: str) -> str:
    """Its letters and digits in lower case, for comparing names as typed."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
