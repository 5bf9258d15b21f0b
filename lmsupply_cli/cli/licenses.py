"""`lmsupply licenses`: the licenses that you have accepted, and withdrawing an acceptance."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsupply_cli.cli.options import Debug, Json

EXAMPLES = (
    ("lmsupply licenses", "the licenses you have accepted"),
    ("lmsupply licenses --revoke llama-3.2-1b", "withdraw an acceptance"),
)


def licenses(
    *,
    revoke: Annotated[
        list[str] | None, typer.Option("--revoke", metavar="MODEL", help="Withdraw your acceptance for this model.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the licenses you have accepted.

    Non-permissive licenses need your acceptance once. It is recorded in the file shown at the end.
    """
    from dataclasses import asdict

    from lmsupply_cli.catalogue import acceptance
    from lmsupply_cli.cli.places import shown_place
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.render.table import Column, print_table
    from lmsupply_cli.render.terminal import Terminal

    terminal = Terminal.of_process()
    for name in revoke or []:
        if not acceptance.revoke(name):
            raise UsageError(f"you have not accepted a license of {name}", hint="lmsupply licenses lists them")
        terminal.say(f"Withdrew your acceptance of {name}.")
    rows = acceptance.read_acceptances()
    if json:
        terminal.json({"accepted": [asdict(row) for row in rows]})
        return
    if revoke and not rows:
        return
    if rows:
        columns = [
            Column("ACCEPTED", [row.date for row in rows], rank=1),
            Column("MODEL", [row.ref for row in rows]),
            Column("LICENSE", [row.license for row in rows]),
            Column("TIER", [row.tier for row in rows], rank=2),
            Column("REPO", [f"{row.repo}@{row.revision[:12]}" for row in rows], rank=3),
        ]
        print_table(terminal, columns)
    else:
        terminal.data("You haven't accepted any licenses. (Permissive ones don't need it.)")
    terminal.remark(f"Recorded in {shown_place(acceptance.acceptance_file())}")
