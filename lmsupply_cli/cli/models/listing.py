"""The rows of `lmsupply models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from lmsupply_cli.catalogue.entry import GUIDE_REF, TIERS, CatalogueEntry, License
from lmsupply_cli.catalogue.lookup import read_catalogue
from lmsupply_cli.cli.places import shown_place
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import folder_bytes
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.loading.recommend import expected_variant, roughly_fits
from lmsupply_cli.store.external import external_models
from lmsupply_cli.store.locate import LocatedModel, guide, installed_models
from lmsupply_cli.store.manifest import last_used_s
from lmsupply_cli.units import format_bytes

SORTS = ("name", "size", "parameters", "license", "used")
Sort = Literal["name", "size", "parameters", "license", "used"]


@dataclass(frozen=True, slots=True)
class Filters:
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
    """`size_bytes` on this disk, else of the variant that this machine would get; `fits` None where unknown."""

    ref: str
    repo: str
    license: License
    entry: CatalogueEntry | None
    located: LocatedModel | None
    variant: str
    size_bytes: int | None
    fits: bool | None
    used_s: float | None


def list_models(root: Path, filters: Filters, *, sort: str | None = None, provider: str = "cpu") -> list[ModelRow]:
    """The catalogue in its order, each of its installed variants, then what else is here. Raises UsageError."""
    if filters.tier is not None and filters.tier not in TIERS:
        raise UsageError(f"no such license tier: {filters.tier}", hint="tiers: " + ", ".join(TIERS))
    if sort is not None and sort not in SORTS:
        raise UsageError(f"cannot sort by {sort!r}", hint="sort by " + ", ".join(SORTS))
    here = [guide(), *installed_models(root), *external_models(root)]
    free = detect_memory().available_bytes
    rows: list[ModelRow] = []
    for entry in read_catalogue():
        found = [m for m in here if m.entry == entry]
        rows += [_installed(m, root, free) for m in found] or [_known(entry, provider, free)]
    rows += [_installed(m, root, free) for m in here if m.entry is None]
    kept = [row for row in rows if _keeps(row, filters)]
    return sorted(kept, key=lambda row: _order(row, sort)) if sort else kept


def _known(entry: CatalogueEntry, provider: str, free: int) -> ModelRow:
    expected = expected_variant(entry, provider=provider)
    size = (expected.chosen.size_bytes or None) if expected else None
    variant = expected.chosen.folder if expected else ""
    return ModelRow(
        entry.ref, entry.repo, entry.license, entry, None, variant, size, roughly_fits(entry, size, free), None
    )


def _installed(model: LocatedModel, root: Path, free: int) -> ModelRow:
    size, entry = folder_bytes(model.path), model.entry
    fits = roughly_fits(entry, size, free) if entry else size < free
    used = last_used_s(root, model.key) if model.key else None
    return ModelRow(model.ref, model.repo, model.license, entry, model, model.variant, size, fits, used)


def _keeps(row: ModelRow, filters: Filters) -> bool:
    entry = row.entry
    words = " ".join((row.ref, row.repo, entry.family if entry else "", *(entry.aliases if entry else ()))).lower()
    return (
        filters.text.lower() in words
        and (not filters.licenses or row.license.id.lower() in {name.lower() for name in filters.licenses})
        and filters.tier in (None, row.license.tier)
        and (filters.family is None or (bool(entry) and entry is not None and entry.family == filters.family.lower()))
        and (filters.role is None or (entry is not None and filters.role.removeprefix("role:").lower() in entry.roles))
        and (row.located is not None or not filters.installed)
        and (row.fits is True or not filters.fits)
    )


def _order(row: ModelRow, sort: str) -> tuple[Any, ...]:
    key: Any = {
        "name": row.ref,
        "size": row.size_bytes or float("inf"),
        "parameters": row.entry.parameters if row.entry else float("inf"),
        "license": row.license.id.lower(),
        "used": -(row.used_s or 0),
    }[sort]
    return (key, row.ref)


def table_lines(rows: Sequence[ModelRow], root: Path, *, width: int, installed: bool) -> list[str]:
    """A plain table; on a narrow terminal the last columns go."""
    header = ("MODEL", "INSTALLED", "SIZE", "LICENSE", "TIER", "FITS", "PARAMETERS", "CONTEXT")
    table = [header, *(_cells(row) for row in rows)]
    if installed:
        table = [(*line[:3], used, *line[3:]) for line, used in zip(table, ["USED", *map(_used, rows)], strict=True)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    columns = len(widths)
    while columns > 3 and sum(widths[:columns]) + 2 * (columns - 1) > width:
        columns -= 1
    lines = ["  ".join(line[i].ljust(widths[i]) for i in range(columns)).rstrip() for line in table]
    lines += ["", "guide is built in: a tiny model that only knows lmsupply. Get a real one with lmsupply pull."]
    if installed:
        lines += [f"{row.ref} is in {row.located.path}" for row in rows if row.located and row.ref != GUIDE_REF]
    return [*lines, f"models are kept in {shown_place(root)}"]


def row_json(row: ModelRow) -> dict[str, Any]:
    entry, license = row.entry, row.license
    return {
        "ref": row.ref,
        "aliases": list(entry.aliases) if entry else [],
        "repo": row.repo or None,
        "family": entry.family if entry else None,
        "parameters": round(entry.parameters * 1e9) if entry else None,
        "context_length": entry.context_length if entry else None,
        "license": {
            "id": license.id,
            "tier": license.tier,
            "url": license.url or None,
            "restrictions": license.restrictions or None,
        },
        "variant": row.variant or None,
        "size_bytes": row.size_bytes,
        "installed": row.located is not None,
        "external": row.located is not None and row.located.external,
        "fits": row.fits,
        "last_used": datetime.fromtimestamp(row.used_s).isoformat(timespec="seconds") if row.used_s else None,
        "path": str(row.located.path) if row.located else None,
    }


def _cells(row: ModelRow) -> tuple[str, ...]:
    entry = row.entry
    size = format_bytes(row.size_bytes) if row.size_bytes else "?"
    if entry and row.located is None and row.size_bytes and "sizes" in entry.uncertain:
        size = "~" + size
    parameters = (
        "?"
        if entry is None
        else f"{entry.parameters:g}B"
        if entry.parameters >= 0.1
        else f"{entry.parameters * 1000:g}M"
    )
    context = f"{entry.context_length:,}" if entry else "?"
    fits = {None: "?", True: "yes", False: "no"}[row.fits]
    return (row.ref, _where(row), size, row.license.id, row.license.tier, fits, parameters, context)


def _where(row: ModelRow) -> str:
    if row.located is None:
        return "no"
    if row.ref == GUIDE_REF:
        return "built in"
    return "external" if row.located.external else "yes"


def _used(row: ModelRow) -> str:
    return datetime.fromtimestamp(row.used_s).strftime("%Y-%m-%d") if row.used_s else "–"
