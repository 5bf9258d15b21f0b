"""`lmsupply licenses`: what was accepted, and taking it back."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsupply_cli.cli.options import Debug, Json


def licenses(
    *,
    revoke: Annotated[
        list[str] | None, typer.Option("--revoke", metavar="MODEL", help="Take the acceptance for this model back.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the licenses that were accepted.

    Licenses that are not permissive are asked for once and recorded with date and revision, in
    a file that the last line names.
    """
    from dataclasses import asdict

    from lmsupply_cli.catalogue import acceptance
    from lmsupply_cli.cli.places import shown_place
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.render.terminal import Terminal

    terminal = Terminal.of_process()
    for name in revoke or []:
        if not acceptance.revoke(name):
            raise UsageError(f"no license was accepted for {name}", hint="lmsupply licenses lists them")
        terminal.say(f"the acceptance for {name} is taken back")
    rows = acceptance.read_acceptances()
    if json:
        terminal.json({"accepted": [asdict(row) for row in rows]})
        return
    for row in rows:
        terminal.data(f"{row.date}  {row.ref}  {row.license} ({row.tier})  {row.repo}@{row.revision[:12]}", indent=12)
    if not rows:
        terminal.data("no license was accepted; permissive ones need no acceptance")
    terminal.data(f"recorded in {shown_place(acceptance.acceptance_file())}")
