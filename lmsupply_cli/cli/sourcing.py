"""What a pull says of a model that is imported: what is downloaded, and what it becomes."""

from __future__ import annotations

from typing import Any

from lmsupply_cli.hub.sources import SAFETENSORS
from lmsupply_cli.loading.sourcing import SourceImport
from lmsupply_cli.render.fields import Row
from lmsupply_cli.units import format_bytes


def source_line(planned: SourceImport) -> str:
    """The line before anything is fetched."""
    plan = planned.plan
    here = plan.total_bytes - plan.fetch_bytes
    kept = f" ({format_bytes(here)} already here)" if here else ""
    return (
        f"{plan.ref}: {source_name(planned)} ({', '.join(plan.choice.reasons)}), "
        f"downloads {format_bytes(plan.total_bytes)}{kept}, {_becomes(planned)} (about "
        f"{format_bytes(planned.write_bytes)}, {format_bytes(planned.memory_bytes)} in memory), {plan.license.label}"
    )


def _becomes(planned: SourceImport) -> str:
    precision = planned.form.precision
    if planned.is_lossless:
        return "imported without loss"
    return f"imported as {precision}" if precision == "exact" else f"converted to {precision}"


def source_name(planned: SourceImport) -> str:
    source = planned.plan.source
    return source.name if source.format in source.name else f"{source.format} {source.name}"


def is_conversion(planned: SourceImport) -> bool:
    """Full weights are downloaded and made into something smaller, which takes more than the download of a model."""
    return planned.plan.source.format == SAFETENSORS


def import_rows(planned: SourceImport) -> list[Row]:
    """What --dry-run adds for an import."""
    return [
        ("write", f"about {format_bytes(planned.write_bytes)}"),
        ("memory", f"about {format_bytes(planned.memory_bytes)}, and the cache of the context"),
    ]


def import_json(planned: SourceImport, *, keep: bool) -> dict[str, Any]:
    return {
        "format": planned.plan.source.format,
        "precision": planned.form.precision,
        "block_size": planned.form.block_size or None,
        "reason": planned.reason,
        "write_bytes": planned.write_bytes,
        "memory_bytes": planned.memory_bytes,
        "keep_source": keep,
    }
