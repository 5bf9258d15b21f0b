"""`lmsupply add`: register a local model folder, or import a GGUF file or safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import BlockSize, Debug, ImportPrecision, Json, TrustModelFiles, takes_settings

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context

EXAMPLES = (
    ("lmsupply add ./my-model", "register a folder under its own name"),
    ("lmsupply add ./my-model mine", "under another name"),
    ("lmsupply add ./model.gguf mine", "import a GGUF file"),
)


@takes_settings("cache_dir")
def add(
    *,
    folder: Annotated[str, typer.Argument(metavar="PATH", show_default=False)],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    alias: Annotated[str | None, typer.Option("--name", "--alias", metavar="NAME", hidden=True)] = None,
    precision: ImportPrecision = None,
    block_size: BlockSize = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what an import would read and write.")] = False,
    trust_model_files: TrustModelFiles = False,
    json: Json = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Register a local model folder, or import a GGUF file or safetensors.

    NAME defaults to the name of the folder or file. A folder in ONNX GenAI format is checked and used in place, and the
    checksums of its files are recorded for lmsupply verify. Adding it again updates them. A GGUF file, or a folder of
    safetensors, is imported: the model is written to the store, and your files stay as they are. lmsupply rm NAME removes
    an import, and unregisters a folder.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.store.source_paths import as_place, no_source, source_at

    if name and alias:
        raise UsageError(f"two names: {name} and {alias}", hint="lmsupply add PATH NAME")
    context, called = Context.of(flags), name or alias
    if source_at(as_place(folder)) is not None:
        if trust_model_files:
            raise UsageError("--trust-model-files has no effect on an import", hint="leave it out")
        _import(context, folder, called, (precision, block_size), dry_run=dry_run, as_json=json)
        return
    if missing := no_source(folder):
        raise missing
    imports = {"--precision": precision, "--block-size": block_size, "--dry-run": dry_run, "--json": json}
    if unused := next((flag for flag, value in imports.items() if value), ""):
        raise UsageError(
            f"{unused} is for GGUF files and safetensors", hint="a folder in ONNX GenAI format is used as it is"
        )
    _register(context, Path(folder), called, trust=trust_model_files)


def _import(
    context: Context,
    source: str,
    name: str | None,
    form: tuple[str | None, str | None],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from lmsupply_cli.cli.importing import import_planned, import_wish, plan_of, say_dry_run

    planned = plan_of(context, source, import_wish(context.settings, *form), name=name)
    if dry_run:
        say_dry_run(context.terminal, planned, context.root, as_json=as_json)
        return
    manifest = import_planned(context, planned, as_json=as_json)
    if as_json:
        context.terminal.json_event("finished", ref=manifest.ref, path=str(context.root / manifest.folder))
    elif planned.is_done:
        moved = f"; its source is now {planned.at.path}" if planned.moved else ""
        context.terminal.say(f"{manifest.ref} is already added: {context.root / manifest.folder}{moved}")
    else:
        context.terminal.say(f"added {manifest.ref}; chat with it: lmsupply chat {manifest.ref}")


def _register(context: Context, folder: Path, name: str | None, *, trust: bool) -> None:
    from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
    from lmsupply_cli.cli.consent import check_allowed
    from lmsupply_cli.render.progress import pull_progress
    from lmsupply_cli.store.add import add_folder, find_added, folder_of, name_of

    place = folder_of(folder)
    called = name or name_of(place)
    check_allowed(called, UNKNOWN_LICENSE, context.settings)
    known = find_added(context.root, place, called)
    with pull_progress(context.terminal) as listener:
        manifest = add_folder(context.root, place, called, trust=trust, listener=listener)
    if known:
        updated = "" if known.files == manifest.files else "; updated the recorded checksums"
        context.terminal.say(f"{manifest.ref} is already added: {manifest.folder}{updated}")
    else:
        context.terminal.say(f"added {manifest.ref}: {manifest.folder}; chat with it: lmsupply chat {manifest.ref}")
