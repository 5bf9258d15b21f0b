"""The table of `lmsupply models`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lmsupply_cli.catalogue.entry import GUIDE_REF
from lmsupply_cli.cli.models.listing import Filters, ModelRow
from lmsupply_cli.cli.places import shown_place
from lmsupply_cli.render.table import Column, print_table
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.units import format_bytes


def print_models(
    terminal: Terminal, rows: Sequence[ModelRow], root: Path, filters: Filters, *, sort: str | None, paths: bool
) -> None:
    """Installed models first, unless they are sorted otherwise; what does not fit is dimmed."""
    if sort is None:
        rows = sorted(rows, key=lambda row: row.located is None)
    columns = [
        Column("MODEL", [row.ref for row in rows]),
        Column("INSTALLED", [_where(row) for row in rows], rank=2),
        Column("USED", [_used(row) for row in rows] if filters.installed else [], rank=6),
        Column("SIZE", [_size(row) for row in rows], right=True),
        Column("FITS", [{None: "?", True: "yes", False: "no"}[row.fits] for row in rows], rank=1),
        Column("PARAMETERS", [_parameters(row) for row in rows], right=True, rank=7),
        Column(
            "CONTEXT", [f"{row.context_length:,}" if row.context_length else "?" for row in rows], right=True, rank=4
        ),
        Column("LICENSE", [_license(row) for row in rows], rank=3),
        Column("ROLES", [", ".join(row.entry.roles) if row.entry else "" for row in rows], rank=5),
    ]
    print_table(terminal, columns, dim=[at for at, row in enumerate(rows) if row.fits is False or not row.allowed])
    if paths:
        for row in rows:
            if row.located and row.ref != GUIDE_REF:
                terminal.styled(f"{row.ref}: {shown_place(row.located.path)}")
        terminal.data(f"Models are stored in {shown_place(root)}")
    elif filters == Filters():
        terminal.remark("Download one: lmsupply pull MODEL. Details: lmsupply show MODEL. Paths: --paths.")
    elif filters.installed:
        terminal.remark("Paths: --paths.")


def _where(row: ModelRow) -> str:
    if row.located is None:
        return ""
    if row.ref == GUIDE_REF:
        return "built in"
    if row.located.external:
        return "external"
    if row.located.source and not row.repo:
        return "imported"
    return "yes" if row.repo else "added"


def _size(row: ModelRow) -> str:
    size = format_bytes(row.size_bytes) if row.size_bytes else "?"
    uncertain = row.entry and row.located is None and row.size_bytes and "sizes" in row.entry.uncertain
    return f"~{size}" if uncertain else size


def _parameters(row: ModelRow) -> str:
    if row.parameters is None:
        return "?"
    billions = row.parameters
    return f"{billions:.3g}B" if billions >= 0.1 else f"{billions * 1000:.3g}M"


def _license(row: ModelRow) -> str:
    return row.license.name if row.allowed else f"{row.license.name} (not allowed)"


def _used(row: ModelRow) -> str:
    return datetime.fromtimestamp(row.used_s).strftime("%Y-%m-%d") if row.used_s else "–"
