"""`lmsupply verify`: hash installed models again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, takes_settings


@takes_settings("cache_dir", "offline")
def verify(
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", show_default=False)] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch the bad files again.")] = False,
    json: Json = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Hash installed models again and name the bad files.

    Without MODEL all of them. Exit 1 when a file is bad and was not repaired.
    """
    from lmsupply_cli.cli.housekeeping import check

    check(names or [], repair=repair, as_json=json, flags=flags)
