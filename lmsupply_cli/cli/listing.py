"""The rows of `lmsupply models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from lmsupply_cli.catalogue.entry import GUIDE_REF, CatalogueEntry, Licence, Tier, read_catalogue
from lmsupply_cli.errors import UsageError
from lmsupply_cli.store.locate import LocatedModel, guide, installed_models
from lmsupply_cli.units import format_bytes


@dataclass(frozen=True, slots=True)
class ModelRow:
    ref: str
    repo: str
    licence: Licence
    entry: CatalogueEntry | None
    located: LocatedModel | None
    size_bytes: int | None


def list_models(
    root: Path, *, text: str | None, licences: Sequence[str], tier: str | None, installed: bool
) -> list[ModelRow]:
    """The catalogue in its order, then what else is installed. Raises UsageError."""
    if tier is not None and tier not in get_args(Tier):
        raise UsageError(f"no such licence tier: {tier}", hint="tiers: " + ", ".join(get_args(Tier)))
    here = [guide(), *installed_models(root)]
    rows = []
    for entry in read_catalogue():
        found = next((m for m in here if m.entry == entry), None)
        size = folder_bytes(found.path) if found else entry.size_bytes
        rows.append(ModelRow(entry.ref, entry.repo, entry.licence, entry, found, size))
    rows += [ModelRow(m.ref, m.repo, m.licence, None, m, folder_bytes(m.path)) for m in here if m.entry is None]
    wanted, names = (text or "").lower(), {name.lower() for name in licences}
    return [
        row
        for row in rows
        if wanted in " ".join((row.ref, row.repo, row.entry.family if row.entry else "", *_aliases(row))).lower()
        and (not names or row.licence.id.lower() in names)
        and (tier is None or row.licence.tier == tier)
        and (row.located is not None or not installed)
    ]


def folder_bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def table_lines(rows: Sequence[ModelRow], root: Path, *, width: int) -> list[str]:
    """A plain table; on a narrow terminal the last columns go."""
    header = ("MODEL", "INSTALLED", "SIZE", "LICENCE", "TIER", "PARAMETERS", "CONTEXT")
    table = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(header))]
    columns = len(header)
    while columns > 3 and sum(widths[:columns]) + 2 * (columns - 1) > width:
        columns -= 1
    lines = ["  ".join(line[i].ljust(widths[i]) for i in range(columns)).rstrip() for line in table]
    lines += ["", "guide is built in: a tiny model that only knows lmsupply. Get a real one with lmsupply pull."]
    lines += [f"{row.ref} is in {row.located.path}" for row in rows if row.located and row.ref != GUIDE_REF]
    return [*lines, f"models are kept in {root}"]


def row_json(row: ModelRow) -> dict[str, Any]:
    entry, licence = row.entry, row.licence
    return {
        "ref": row.ref,
        "aliases": _aliases(row),
        "repo": row.repo or None,
        "family": entry.family if entry else None,
        "parameters": round(entry.parameters * 1e9) if entry else None,
        "context_length": entry.context_length if entry else None,
        "licence": {
            "id": licence.id,
            "tier": licence.tier,
            "url": licence.url or None,
            "restrictions": licence.restrictions or None,
        },
        "variant": row.located.variant or None if row.located else None,
        "size_bytes": row.size_bytes,
        "installed": row.located is not None,
        "fits": None,
        "path": str(row.located.path) if row.located else None,
    }


def _aliases(row: ModelRow) -> list[str]:
    return list(row.entry.aliases) if row.entry else []


def _cells(row: ModelRow) -> tuple[str, ...]:
    entry = row.entry
    size = format_bytes(row.size_bytes) if row.size_bytes else "?"
    if entry and entry.approximate and row.located is None:
        size = "~" + size
    parameters = (
        "?"
        if entry is None
        else f"{entry.parameters:g}B"
        if entry.parameters >= 0.1
        else f"{entry.parameters * 1000:g}M"
    )
    context = f"{entry.context_length:,}" if entry else "?"
    here = "built in" if row.ref == GUIDE_REF else "yes" if row.located else "no"
    return (row.ref, here, size, row.licence.id, row.licence.tier, parameters, context)
