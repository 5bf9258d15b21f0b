"""`lmsupply verify`: check the files of installed models."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, takes_settings
from lmsupply_cli.files import is_folder
from lmsupply_cli.units import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.render.terminal import Terminal
    from lmsupply_cli.store.manifest import Manifest
    from lmsupply_cli.store.verify import ModelCheck


EXAMPLES = (
    ("lmsupply verify", "check all installed models"),
    ("lmsupply verify phi-4-mini --repair", "download damaged files again"),
)


@takes_settings("cache_dir", "offline")
def verify(
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", show_default=False)] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Download damaged files again, and import damaged imports again.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Check installed models for damaged files.

    Without MODEL, checks all of them. Exits with 1 if a file is damaged and was not repaired. Folders you added are
    compared with their state when you added them.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.render.progress import pull_progress
    from lmsupply_cli.store.manifest import read_records
    from lmsupply_cli.store.model_store import find_manifests
    from lmsupply_cli.store.unique_refs import refs_of_records
    from lmsupply_cli.store.verify import verify as check

    context = Context.of(flags)
    terminal, root = context.terminal, context.root
    records = read_records(root)
    manifests = find_manifests(names, root) if names else list(records.manifests)
    for skipped in records.skipped:
        terminal.say(f"note: skipped: {skipped}")
    called, checks = refs_of_records(records.manifests, root), []
    for manifest in manifests:
        with pull_progress(terminal) as listener:
            found = check(root, manifest, listener=listener)
        if found.bad and repair and not manifest.added:
            found = check(root, _repair(found, context))
        checks.append(found)
    if json:
        terminal.json({"models": [_row(found, called) for found in checks]})
    else:
        _say(checks, called, terminal, repair=repair)
    if not all(found.ok for found in checks):
        raise typer.Exit(1)


def _row(found: ModelCheck, called: Mapping[str, str]) -> dict[str, Any]:
    by_size = set(found.sizes_only)
    files = [
        {"path": f.path, "ok": f.ok, "reason": f.reason or None, "hashed": f.path not in by_size} for f in found.files
    ]
    notes = [*found.notes, *_age_notes(found.manifest)]
    return {"ref": called.get(found.manifest.key, found.manifest.ref), "ok": found.ok, "files": files, "notes": notes}


def _age_notes(manifest: Manifest) -> list[str]:
    """That an import may gain from being done again."""
    if not manifest.source:
        return []
    from lmsupply_cli.importer.plan import VERSION

    if manifest.source.importer >= VERSION:
        return []
    way = f"lmsupply {'pull' if manifest.repo else 'add'}"
    return [f"an older lmsupply imported it; to benefit from the newer one, remove it and import it again with {way}"]


def _pull_again(manifest: Manifest, context: Context) -> Manifest:
    """Download what it was imported from once more. Raises HubError, ModelFilesError, FileError."""
    from lmsupply_cli.loading.sourcing import import_again
    from lmsupply_cli.render.progress import pull_progress

    context.terminal.say(f"downloading and importing {manifest.ref} again")
    with pull_progress(context.terminal) as listener:
        return import_again(manifest, context.root, listener=listener)


def _import_again(manifest: Manifest, context: Context) -> Manifest:
    """From the files that it was imported from. Raises ModelNotFound if they are gone, ModelFilesError."""
    from lmsupply_cli.cli.importing import import_planned, plan_of
    from lmsupply_cli.errors import ModelNotFound
    from lmsupply_cli.files import size_of
    from lmsupply_cli.loading.importing import ImportWish
    from lmsupply_cli.store.source_paths import source_at

    source = manifest.source
    assert source is not None
    first = Path(source.files[0].path)
    place = first if source.format == "gguf" else first.parent
    if size_of(first) < 0 or source_at(place) is None:
        raise ModelNotFound(
            f"{manifest.ref} can't be imported again: {first} is gone",
            hint=f"put it back, or remove the model: lmsupply rm {manifest.ref}",
        )
    context.terminal.say(f"importing {manifest.ref} again from {place}")
    wish = ImportWish(source.precision, source.block_size or None)
    return import_planned(context, plan_of(context, str(place), wish, name=manifest.ref), again=True)


def _say(checks: Sequence[ModelCheck], called: Mapping[str, str], terminal: Terminal, *, repair: bool) -> None:
    """`called`: a ref for each model that no other one has, by its key."""
    for found in checks:
        name = called.get(found.manifest.key, found.manifest.ref)
        state = "ok" if found.ok else "changed" if found.manifest.added else "damaged"
        terminal.data(f"{name}: {state} ({_counted(found)})")
        for file in found.files:
            if not file.ok:
                terminal.data(f"  {file.path}: {file.reason}", indent=4)
        for note in (*found.notes, *_age_notes(found.manifest)):
            terminal.say(f"note: {name}: {note}")
    if not checks:
        terminal.data("no models installed")
    bad = [found.manifest for found in checks if found.bad and not found.manifest.added]
    for what, of_kind in (
        ("downloads the damaged files", any(not manifest.source for manifest in bad)),
        ("imports damaged models", any(manifest.source for manifest in bad)),
    ):
        if of_kind and not repair:
            terminal.say(f"hint: lmsupply verify --repair {what} again")
    for found in checks:
        if found.manifest.added:
            _say_of_folder(found, terminal, repair=repair)


def _say_of_folder(found: ModelCheck, terminal: Terminal, *, repair: bool) -> None:
    """What to do about a folder of the user's."""
    manifest = found.manifest
    if not is_folder(Path(manifest.folder)):
        terminal.say(f"hint: the folder is gone; lmsupply rm {manifest.ref} unregisters it")
    elif not found.ok or found.sizes_only:
        if repair and not found.ok:
            terminal.say(f"note: lmsupply can't repair {manifest.ref}, because it is your own folder")
        verb = "records" if found.ok else "updates"
        terminal.say(f"hint: lmsupply add {shlex.quote(manifest.folder)} {manifest.ref} {verb} its checksums")


def _counted(found: ModelCheck) -> str:
    """`7 files`; of some, only the size may have been compared."""
    files, by_size = count(len(found.files), "file"), len(found.sizes_only)
    if not by_size:
        return files
    return (
        f"{files}, only sizes compared" if by_size == len(found.files) else f"{files}, {by_size} compared by size only"
    )


def _repair(found: ModelCheck, context: Context) -> Manifest:
    """Fetch the bad files again, at the commit that was pulled, or import the model again; its record then."""
    from lmsupply_cli.errors import HubError
    from lmsupply_cli.hub.client import kept_offline_by
    from lmsupply_cli.render.progress import pull_progress
    from lmsupply_cli.store.pull import run_pull
    from lmsupply_cli.store.repair import plan_repair

    terminal, root, ref = context.terminal, context.root, found.manifest.ref
    if found.manifest.source and not found.manifest.repo:
        return _import_again(found.manifest, context)
    if cause := kept_offline_by(context.settings.get("offline")):
        raise HubError(f"cannot repair {ref} offline", hint=f"leave out {cause}")
    if found.manifest.source:
        return _pull_again(found.manifest, context)
    plan = plan_repair(found, root)
    terminal.say(f"downloading {count(len(found.bad), 'damaged file')} of {ref} again")
    with pull_progress(terminal) as listener:
        return run_pull(plan, root, listener=listener)
