"""`lmsupply show`: the details of one model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, check_one_of, takes_settings

EXAMPLES = (
    ("lmsupply show phi-4-mini", "variants and why one is picked, license, architecture"),
    ("lmsupply show phi-4-mini --license", "the text of its license"),
)


@takes_settings("provider", "precision", "cache_dir", "offline")
def show(
    *,
    name: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    license: Annotated[
        bool, typer.Option("--license", help="Print the text of the license, if the repo has one.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Show details of a model: variants and why one was picked, license, architecture, files.

    Installed models are read from disk, others from the Hub or, when offline, from the
    catalogue.
    """
    from lmsupply_cli.cli.consent import why_not_allowed
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.show.describe import describe, description_json, description_rows, license_text
    from lmsupply_cli.render.fields import print_fields

    context = Context.of(flags)
    terminal, settings, root = context.terminal, context.settings, context.root
    check_one_of({"--license": license, "--json": json})
    if license:
        terminal.document(license_text(name, settings, root).rstrip() + "\n")
        return
    description = describe(name, settings, root)
    if json:
        terminal.json(description_json(description))
        return
    refused = why_not_allowed(description.license, settings)
    rows = description_rows(description) + ([("not allowed", refused)] if refused else [])
    print_fields(terminal, rows)
