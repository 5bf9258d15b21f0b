"""`lmsupply show`: one model, whole."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, takes_settings


@takes_settings("provider", "precision", "cache_dir", "offline")
def show(
    *,
    name: Annotated[str, typer.Argument(metavar="MODEL", show_default=False)],
    license: Annotated[
        bool, typer.Option("--license", help="Print the license's text, where the repo carries it.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Show a model: variants, sizes, license, prompt format, files.

    Every variant is listed with why it was chosen or not. An installed model is read from the
    disk; else the Hub is asked, and without it the catalogue.
    """
    from lmsupply_cli import paths
    from lmsupply_cli.cli.context import store_root
    from lmsupply_cli.cli.show.describe import describe, description_json, description_rows, license_text
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.render.sheet import print_sheet
    from lmsupply_cli.render.terminal import Terminal

    terminal = Terminal.of_process()
    settings = read_settings(flags, environ=terminal.environ, path=paths.settings_file())
    root = store_root(settings)
    if license:
        terminal.document(license_text(name, settings, root).rstrip() + "\n")
        return
    description = describe(name, settings, root)
    if json:
        terminal.json(description_json(description))
        return
    print_sheet(terminal, description_rows(description), width=14)
