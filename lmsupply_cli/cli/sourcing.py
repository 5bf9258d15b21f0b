"""Pull a model that is imported, for a person: what is downloaded and what it becomes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsupply_cli.cli.consent import check_allowed, ensure_accepted
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.importing import say_written
from lmsupply_cli.errors import UsageError
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.hub.sources import GGUF, SAFETENSORS
from lmsupply_cli.loading.importing import ImportWish, check_new
from lmsupply_cli.loading.sourcing import SourceImport, fetch_and_convert, plan_model
from lmsupply_cli.providers import CPU
from lmsupply_cli.render.fields import Row
from lmsupply_cli.render.progress import JsonProgress, pull_progress
from lmsupply_cli.store.locate import parse_repo
from lmsupply_cli.store.plan import SourcePlan
from lmsupply_cli.units import format_bytes


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """`out`: a folder outside of the store, None to install the model; `keep`: the downloaded files stay."""

    wish: ImportWish
    out: Path | None = None
    keep: bool = False
    dry_run: bool = False
    accepted: bool = False
    as_json: bool = False


def convert_repo(context: Context, name: str, request: SourceRequest) -> None:
    """`convert owner/repo`: its safetensors, or its GGUF where it has none or one is named. Raises LmsupplyError."""
    from lmsupply_cli.cli.fetching import dry_run_plan, plan_json, pull_plan, say_plan

    terminal, out = context.terminal, request.out
    if out:
        check_new(out)
    planned = _planned(context, name, request.wish)
    check_allowed(planned.ref, planned.plan.license, context.settings)
    if request.dry_run:
        dry_run_plan(planned, context, keep=request.keep, as_json=request.as_json)
        return
    if request.as_json:
        terminal.json_event("plan", **plan_json(planned, CPU.name, keep=request.keep))
    else:
        say_plan(planned, terminal)
    if out is None:
        manifest = pull_plan(
            planned, context.root, terminal, accepted=request.accepted, as_json=request.as_json, keep=request.keep
        )
        if request.as_json:
            terminal.json_event("finished", ref=manifest.ref, path=str(context.root / manifest.folder))
        return

    def consent(plan: SourcePlan) -> None:
        ensure_accepted(plan.ref, plan.tree.repo, plan.tree.commit, plan.license, terminal, accepted=request.accepted)

    with nullcontext(JsonProgress(terminal)) if request.as_json else pull_progress(terminal) as listener:
        fetch_and_convert(planned, context.root, out, consent=consent, keep=request.keep, listener=listener)
    say_written(terminal, out, as_json=request.as_json)


def _planned(context: Context, name: str, wish: ImportWish) -> SourceImport:
    """Raises LmsupplyError."""
    offline, wanted = context.settings.get("offline"), parse_repo(name)
    formats = (None,) if wanted and wanted.variant else (SAFETENSORS, GGUF)
    refused: UsageError | None = None
    for variant in formats:
        try:
            with pull_progress(context.terminal) as listener:
                plan = plan_model(
                    name, context.root, VariantWish(variant=variant), wish, offline=offline, listener=listener
                )
        except UsageError as error:
            refused = refused or error
            continue
        if isinstance(plan, SourceImport):
            return plan
        raise UsageError(f"{name} is in ONNX GenAI format already", hint=f"lmsupply pull {name}")
    raise UsageError(f"{name} has no safetensors and no GGUF to convert", hint=f"lmsupply pull {name}") from refused


def source_line(planned: SourceImport) -> str:
    """The line before anything is fetched."""
    plan = planned.plan
    reasons = ", ".join(plan.choice.reasons)
    here = plan.total_bytes - plan.fetch_bytes
    kept = f" ({format_bytes(here)} already here)" if here else ""
    return (
        f"{plan.ref}: {_named(planned)} ({reasons}), {format_bytes(plan.total_bytes)}{kept} to import as "
        f"{planned.form.precision}, about {format_bytes(planned.write_bytes)}, {plan.license.label}"
    )


def _named(planned: SourceImport) -> str:
    source = planned.plan.source
    return source.name if source.format in source.name else f"{source.format} {source.name}"


def source_rows(planned: SourceImport, *, keep: bool) -> list[Row]:
    """What --dry-run shows."""
    plan = planned.plan
    needed = plan.fetch_bytes + planned.write_bytes
    return [
        ("source", f"{_named(planned)}: {'; '.join(plan.choice.reasons)}"),
        ("precision", f"{planned.form.precision} ({planned.reason})"),
        *(("not", f"{source.name}: {reason}") for source, reason in plan.choice.rejected),
        ("license", plan.license.terms),
        *(("file", f"{p.file.path}  {format_bytes(p.file.size_bytes)}" + _have(p.have_bytes)) for p in plan.files),
        ("download", f"{format_bytes(plan.fetch_bytes)} of {format_bytes(plan.total_bytes)}, " + _fate(keep=keep)),
        ("write", f"about {format_bytes(planned.write_bytes)}"),
        ("memory", f"about {format_bytes(planned.memory_bytes)}, and the cache of the context"),
        ("free disk", format_bytes(plan.free_disk_bytes) + ("" if needed <= plan.free_disk_bytes else ": not enough")),
    ]


def _fate(*, keep: bool) -> str:
    return "kept" if keep else "removed after the import"


def _have(have: int) -> str:
    return f", {format_bytes(have)} already here" if have else ""


def source_json(planned: SourceImport, *, keep: bool) -> dict[str, Any]:
    plan, source = planned.plan, planned.plan.source
    return {
        "model": {"ref": plan.ref, "repo": plan.tree.repo, "commit": plan.tree.commit},
        "chosen": {
            "variant": source.name,
            "provider": CPU.name,
            "precision": source.precision or None,
            "reasons": list(plan.choice.reasons),
        },
        "rejected": [{"variant": other.name, "reason": reason} for other, reason in plan.choice.rejected],
        "files": [
            {"path": p.file.path, "size_bytes": p.file.size_bytes, "have_bytes": p.have_bytes} for p in plan.files
        ],
        "fetch_bytes": plan.fetch_bytes,
        "free_disk_bytes": plan.free_disk_bytes,
        "license": plan.license.as_dict(),
        "import": {
            "format": source.format,
            "precision": planned.form.precision,
            "block_size": planned.form.block_size or None,
            "reason": planned.reason,
            "write_bytes": planned.write_bytes,
            "memory_bytes": planned.memory_bytes,
            "keep_source": keep,
        },
    }
