"""Import a model for a person: what it will take, progress, and a last line that says what happened."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import Any

from lmsupply_cli.cli.consent import check_allowed
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.options import whole_number
from lmsupply_cli.cli.places import shown_place
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.files import absolute, folder_bytes, free_bytes
from lmsupply_cli.importer.plan import BLOCK_SIZES, ImportPlan
from lmsupply_cli.loading.importing import (
    ImportWish,
    LocalImport,
    check_new,
    convert_to,
    find_source,
    import_local,
    license_of,
    plan_local,
    plan_source,
)
from lmsupply_cli.render.fields import Row
from lmsupply_cli.render.progress import JsonProgress, pull_progress
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.manifest import Manifest
from lmsupply_cli.units import count, format_bytes, format_duration

MEMORY_TOKENS = 4096


def import_wish(settings: Settings, precision: str | None = None, block_size: str | None = None) -> ImportWish:
    """`precision` and `block_size`: as flags of the command. The setting `precision` is what full-precision weights are
    stored in, where an import can."""
    size = None if block_size is None else whole_number("--block-size", block_size, BLOCK_SIZES[0], BLOCK_SIZES[-1])
    return ImportWish.of(settings.get("precision"), precision, size)


def plan_of(context: Context, source: str, wish: ImportWish, *, name: str | None = None) -> LocalImport:
    """Raises ModelNotFound, ModelFilesError, LicenseNotAccepted for one that the settings do not allow, UsageError."""
    with pull_progress(context.terminal) as listener:
        planned = plan_local(find_source(source), context.root, wish, name=name, listener=listener)
    check_allowed(planned.ref, planned.license, context.settings)
    return planned


def import_planned(context: Context, planned: LocalImport, *, as_json: bool = False, again: bool = False) -> Manifest:
    """Say what happens, import, and say how it went; nothing is said of a model that is installed. Raises ModelFilesError,
    FileError."""
    terminal = context.terminal
    if planned.is_done and not again:
        return import_local(planned, context.root)
    if not as_json and planned.installed is None:
        terminal.say(plan_line(planned))
    began = time.monotonic()
    with nullcontext(JsonProgress(terminal)) if as_json else pull_progress(terminal) as listener:
        manifest = import_local(planned, context.root, listener=listener, again=again)
    if not as_json and planned.installed is None:
        terminal.say(finished_line(manifest, time.monotonic() - began))
    return manifest


def write_folder(
    context: Context, source: str, wish: ImportWish, folder: Path, *, dry_run: bool, as_json: bool
) -> None:
    """Convert a model on this machine into a folder outside of the store. Raises as `plan_of`, FileError."""
    terminal, at = context.terminal, find_source(source)
    check_new(folder)
    plan = plan_source(at, wish)
    with pull_progress(terminal) as listener:
        license = license_of(plan, at, context.root, listener=listener)
    planned = LocalImport(folder.name, at, plan, license)
    check_allowed(planned.ref, planned.license, context.settings)
    if dry_run:
        say_dry_run(terminal, planned, folder, out=folder, as_json=as_json)
        return
    if not as_json:
        terminal.say(plan_line(planned, "converting"))
    with nullcontext(JsonProgress(terminal)) if as_json else pull_progress(terminal) as listener:
        convert_to(planned.plan, folder, listener=listener)
    say_written(terminal, folder, as_json=as_json)


def say_written(terminal: Terminal, folder: Path, *, as_json: bool) -> None:
    if as_json:
        terminal.json_event("finished", ref=None, path=str(absolute(folder)))
    else:
        terminal.say(
            f"wrote {folder}: {format_bytes(folder_bytes(folder))}; to give it a name: lmsupply add {quote(str(folder))}"
        )


def plan_line(planned: LocalImport, verb: str = "importing") -> str:
    plan, at = planned.plan, planned.at
    return (
        f"{verb} {at.found or shown_place(at.path)}: {in_words(plan)}, "
        f"about {format_bytes(plan.write_bytes)}, {planned.license.label}"
    )


def finished_line(manifest: Manifest, taken_s: float) -> str:
    return f"imported {manifest.ref}: {format_bytes(manifest.size_bytes)} in {format_duration(taken_s)}"


def in_words(plan: ImportPlan) -> str:
    """The precision, and why: "exact (its quantized weights are carried over as they are)"."""
    return f"{plan.wish.precision} ({plan.reason})"


def import_rows(plan: ImportPlan, root: Path) -> list[Row]:
    """What --dry-run shows of the conversion itself."""
    memory, tokens = plan.memory(MEMORY_TOKENS), min(MEMORY_TOKENS, plan.config.context_length)
    free = free_bytes(root)
    return [
        ("format", plan.source.format),
        ("precision", in_words(plan)),
        *kind_rows(plan.kinds, plan.forms),
        *(("note", note) for note in plan.notes),
        ("context", f"{plan.config.context_length:,} tokens"),
        ("write", f"about {format_bytes(plan.write_bytes)}"),
        ("memory", f"about {format_bytes(memory.peak_bytes)} with a context of {tokens:,} tokens"),
        ("free disk", format_bytes(free) + ("" if plan.write_bytes <= free else ": not enough")),
    ]


def kind_rows(kinds: Mapping[str, int], forms: Mapping[str, int]) -> list[Row]:
    """The quantization types of the source, and how the weights are represented."""
    return [
        ("source types", ", ".join(f"{kind} ({number})" for kind, number in kinds.items())),
        *(
            ("stored as" if at == 0 else "", f"{form} ({count(number, 'weight')})")
            for at, (form, number) in enumerate(forms.items())
        ),
    ]


def local_rows(planned: LocalImport, root: Path, out: Path | None = None) -> list[Row]:
    """What --dry-run shows. `out`: the folder that is written instead of a model of the store."""
    done = planned.installed
    return [
        ("folder", shown_place(out))
        if out
        else ("model", planned.ref + (", already imported" if planned.is_done else "")),
        ("source", f"{shown_place(planned.at.path)}, {format_bytes(_size(planned))}, kept"),
        *([("same as", done.ref)] if done and not planned.is_done else []),
        ("license", planned.license.terms),
        *import_rows(planned.plan, root),
    ]


def import_json(plan: ImportPlan, root: Path) -> dict[str, Any]:
    """The same of the conversion, for programs."""
    memory = plan.memory(MEMORY_TOKENS)
    return {
        "format": plan.source.format.lower(),
        "precision": plan.wish.precision,
        "block_size": plan.block_size or None,
        "reason": plan.reason,
        "kinds": dict(plan.kinds),
        "forms": dict(plan.forms),
        "notes": list(plan.notes),
        "context_length": plan.config.context_length,
        "write_bytes": plan.write_bytes,
        "memory_bytes": memory.peak_bytes,
        "free_disk_bytes": free_bytes(root),
    }


def local_json(planned: LocalImport, root: Path, out: Path | None = None) -> dict[str, Any]:
    return {
        "ref": None if out else planned.ref,
        "out": str(absolute(out)) if out else None,
        "source": {"path": str(planned.at.path), "size_bytes": _size(planned), "kept": True},
        "installed": planned.is_done,
        "license": planned.license.as_dict(),
        **import_json(planned.plan, root),
    }


def _size(planned: LocalImport) -> int:
    return sum(max(0, file.stat().st_size) for file in planned.at.files)


def say_dry_run(
    terminal: Terminal, planned: LocalImport, root: Path, *, out: Path | None = None, as_json: bool
) -> None:
    from lmsupply_cli.render.fields import print_fields

    if as_json:
        terminal.json({"import": local_json(planned, root, out)})
    else:
        print_fields(terminal, local_rows(planned, root, out))
