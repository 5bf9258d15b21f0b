"""The rows of `lmsupply models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from lmsupply_cli.catalogue.entry import TIERS, CatalogueEntry, License, license_id
from lmsupply_cli.catalogue.lookup import read_catalogue
from lmsupply_cli.errors import FileError, UsageError
from lmsupply_cli.files import folder_bytes, read_json
from lmsupply_cli.genai_config import count_of, object_of
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.loading.recommend import Allowed, any_license, expected_variant
from lmsupply_cli.memory.rough import roughly_fits
from lmsupply_cli.store.external import external_models
from lmsupply_cli.store.locate import LocatedModel, guide, installed_models
from lmsupply_cli.store.manifest import last_used_s
from lmsupply_cli.store.unique_refs import leads_to, unique_refs

_CONFIG_BYTES = 1_000_000
SORTS = ("name", "size", "parameters", "license", "used")


class Filters(NamedTuple):
    """All that are set must hold; texts match in any case."""

    text: str = ""
    licenses: tuple[str, ...] = ()
    tier: str | None = None
    family: str | None = None
    role: str | None = None
    installed: bool = False
    fits: bool = False


@dataclass(frozen=True, slots=True)
class ModelRow:
    """`ref`: leads to this model and to no other row; `aliases`: other names that do; `size_bytes`: on this disk, else of
    the variant that this machine would get; `fits`: None where unknown; `allowed`: whether the settings allow its license."""

    ref: str
    repo: str
    license: License
    entry: CatalogueEntry | None
    located: LocatedModel | None
    variant: str
    size_bytes: int | None
    fits: bool | None
    used_s: float | None
    context_length: int | None
    aliases: tuple[str, ...] = ()
    allowed: bool = True

    @property
    def parameters(self) -> float | None:
        """In billions; None if it is not known."""
        if self.entry:
            return self.entry.parameters
        return self.located.parameters if self.located else None


def check_filters(filters: Filters, sort: str | None) -> None:
    """Raises UsageError for a tier or an order that does not exist."""
    if filters.tier is not None and filters.tier not in TIERS:
        raise UsageError(f"unknown license tier {filters.tier!r}", hint="license tiers: " + ", ".join(TIERS))
    if sort is not None and sort not in SORTS:
        raise UsageError(f"can't sort by {sort!r}", hint="sort by " + ", ".join(SORTS))


def list_models(
    root: Path, filters: Filters, wish: VariantWish, *, sort: str | None = None, allowed: Allowed = any_license
) -> list[ModelRow]:
    """The catalogue in its order, each of its installed variants, then what else is here. What is not `allowed` is only
    listed if it is installed."""
    here = [guide(), *installed_models(root), *external_models(root)]
    free = detect_memory().available_bytes
    installed = [_installed(m, ref, here, root, free) for m, ref in zip(here, unique_refs(here), strict=True)]
    rows: list[ModelRow] = []
    for entry in read_catalogue():
        rows += [row for row in installed if row.entry == entry] or [_known(entry, wish, free)]
    rows += [row for row in installed if row.entry is None]
    rows = [replace(row, allowed=allowed(row.license)) for row in rows]
    kept = [row for row in rows if _keeps(row, filters)]
    return sorted(kept, key=lambda row: _order(row, sort)) if sort else kept


def _known(entry: CatalogueEntry, wish: VariantWish, free: int) -> ModelRow:
    expected = expected_variant(entry, wish)
    size = (expected.chosen.size_bytes or None) if expected else None
    variant = expected.chosen.folder if expected else ""
    return ModelRow(
        entry.ref,
        entry.repo,
        entry.license,
        entry,
        None,
        variant,
        size,
        roughly_fits(entry, size, free),
        None,
        entry.context_length,
        entry.aliases,
    )


def _installed(model: LocatedModel, ref: str, here: Sequence[LocatedModel], root: Path, free: int) -> ModelRow:
    """`ref`: its name of its own among the models that are `here`."""
    size, entry = folder_bytes(model.path), model.entry
    fits = roughly_fits(entry, size, free) if entry else size < free
    used = last_used_s(root, model.key) if model.key else None
    context = entry.context_length if entry else _context_length(model)
    aliases = entry.aliases if entry else ()
    if ref != model.ref:
        aliases = (model.ref, *aliases) if leads_to(model.ref, model, here) else ()
    return ModelRow(ref, model.repo, model.license, entry, model, model.variant, size, fits, used, context, aliases)


def _context_length(model: LocatedModel) -> int | None:
    """Of a model that the catalogue does not know, as its own config says."""
    try:
        config = read_json(model.path / "genai_config.json", limit_bytes=_CONFIG_BYTES)
    except FileError:
        return None
    return count_of(object_of(config, "model"), "context_length") if isinstance(config, dict) else None


def _keeps(row: ModelRow, filters: Filters) -> bool:
    entry = row.entry
    named = row.located.ref if row.located else ""
    words = " ".join((row.ref, named, row.repo, *((entry.family, *entry.aliases) if entry else ()))).lower()
    return (
        filters.text.lower() in words
        and (not filters.licenses or row.license.id.lower() in {license_id(name).lower() for name in filters.licenses})
        and filters.tier in (None, row.license.tier)
        and (filters.family is None or (bool(entry) and entry is not None and entry.family == filters.family.lower()))
        and (filters.role is None or (entry is not None and _role(filters.role) in entry.roles))
        and (row.located is not None or (row.allowed and not filters.installed))
        and (row.fits is True or not filters.fits)
    )


def _role(name: str) -> str:
    return name.lower().removeprefix("role:")


def _order(row: ModelRow, sort: str) -> tuple[Any, ...]:
    key: Any = {
        "name": row.ref,
        "size": row.size_bytes or float("inf"),
        "parameters": row.parameters or float("inf"),
        "license": row.license.id.lower(),
        "used": -(row.used_s or 0),
    }[sort]
    return (key, row.ref)


def nothing_matches(root: Path, filters: Filters) -> str:
    """A message for an empty list, with the valid values of those filters that no model has."""
    rows = list_models(root, Filters(), VariantWish())
    families = sorted({row.entry.family for row in rows if row.entry})
    roles = sorted({role for row in rows if row.entry for role in row.entry.roles})
    licenses = sorted({row.license.id for row in rows}, key=str.lower)
    lines = []
    unknown = [
        name for name in filters.licenses if license_id(name).lower() not in {known.lower() for known in licenses}
    ]
    if filters.family is not None and filters.family.lower() not in families:
        lines.append(f"Families: {', '.join(families)}")
    if filters.role is not None and _role(filters.role) not in roles:
        lines.append(f"Roles: {', '.join(roles)}")
    if unknown:
        lines.append(f"Licenses: {', '.join(licenses)}")
    if not lines:
        lines = [f"Families: {', '.join(families)}", f"Roles: {', '.join(roles)}"]
    wanted = [
        *([repr(filters.text)] if filters.text else []),
        *(f"--license {name}" for name in filters.licenses),
        *([f"--license-tier {filters.tier}"] if filters.tier else []),
        *([f"--family {filters.family}"] if filters.family is not None else []),
        *([f"--role {filters.role}"] if filters.role is not None else []),
        *(["--installed"] if filters.installed else []),
        *(["--fits"] if filters.fits else []),
    ]
    return "\n".join([f"No model matches {' '.join(wanted)}.", *lines])


def row_json(row: ModelRow) -> dict[str, Any]:
    entry = row.entry
    return {
        "ref": row.ref,
        "aliases": list(row.aliases),
        "repo": row.repo or None,
        "family": entry.family if entry else None,
        "parameters": round(row.parameters * 1e9) if row.parameters else None,
        "context_length": row.context_length,
        "license": row.license.as_dict(),
        "variant": row.variant or None,
        "size_bytes": row.size_bytes,
        "installed": row.located is not None,
        "allowed": row.allowed,
        "external": row.located is not None and row.located.external,
        "fits": row.fits,
        "last_used": datetime.fromtimestamp(row.used_s).isoformat(timespec="seconds") if row.used_s else None,
        "path": str(row.located.path) if row.located else None,
    }
