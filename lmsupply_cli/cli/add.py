"""`lmsupply add`: register a local model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, TrustModelFiles, takes_settings

EXAMPLES = (
    ("lmsupply add ./my-model", "register a folder under its own name"),
    ("lmsupply add ./my-model mine", "under another name"),
)


@takes_settings("cache_dir")
def add(
    *,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", show_default=False)],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    alias: Annotated[str | None, typer.Option("--alias", "--name", metavar="NAME", hidden=True)] = None,
    trust_model_files: TrustModelFiles = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Register a local model folder.

    NAME defaults to the name of the folder. The folder is checked and used in place, and the checksums of its files are
    recorded for lmsupply verify. Adding it again updates the recorded checksums. lmsupply rm NAME unregisters it.
    """
    from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
    from lmsupply_cli.cli.consent import check_allowed
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.render.progress import pull_progress
    from lmsupply_cli.store.add import add_folder, find_added, folder_of, name_of

    if name and alias:
        raise UsageError(f"two names: {name} and {alias}", hint="lmsupply add FOLDER NAME")
    context = Context.of(flags)
    place = folder_of(Path(folder))
    called = name or alias or name_of(place)
    check_allowed(called, UNKNOWN_LICENSE, context.settings)
    known = find_added(context.root, place, called)
    with pull_progress(context.terminal) as listener:
        manifest = add_folder(context.root, place, called, trust=trust_model_files, listener=listener)
    if known:
        updated = "" if known.files == manifest.files else "; updated the recorded checksums"
        context.terminal.say(f"{manifest.ref} is already added: {manifest.folder}{updated}")
    else:
        context.terminal.say(f"added {manifest.ref}: {manifest.folder}; chat with it: lmsupply chat {manifest.ref}")
