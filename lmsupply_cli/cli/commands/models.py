"""`lmsupply models`: what exists, what is installed, under which licence."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsupply_cli.cli.options import Debug, Json


def models(
    *,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", show_default=False)] = None,
    license: Annotated[
        list[str] | None,
        typer.Option("--license", metavar="NAME", help="Only models under this licence; any case, repeatable."),
    ] = None,
    license_tier: Annotated[
        str | None,
        typer.Option("--license-tier", metavar="TIER", help="Only permissive, conditional, research or unknown."),
    ] = None,
    installed: Annotated[bool, typer.Option("--installed", help="Only what is on this machine.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print refs only.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List models: what exists, what is installed, under which licence.

    TEXT keeps the models whose name, repo or family holds it. The built-in guide comes first.
    """
    from lmsupply_cli.cli.choose import store_root
    from lmsupply_cli.cli.listing import list_models, row_json, table_lines
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.paths import settings_file
    from lmsupply_cli.render.terminal import Terminal

    terminal = Terminal.of_process()
    root = store_root(read_settings(environ=terminal.environ, path=settings_file()))
    rows = list_models(root, text=text, licences=license or [], tier=license_tier, installed=installed)
    if json:
        terminal.json({"models": [row_json(row) for row in rows]})
    elif quiet:
        for row in rows:
            terminal.data(row.ref)
    else:
        for line in table_lines(rows, root, width=terminal.width):
            terminal.data(line)
