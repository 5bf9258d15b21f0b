"""`lmsupply rm`: remove installed models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, takes_settings


@takes_settings("cache_dir")
def rm(
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", show_default=False)] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Remove what unfinished pulls and removals left.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Remove installed models.

    Files that another installed model shares stay. A folder that was added is forgotten, and
    models that belong to other tools are left alone.
    """
    from lmsupply_cli.cli.housekeeping import remove

    remove(names or [], partial=partial, dry_run=dry_run, yes=yes, flags=flags)
