"""`lmsupply models`: what exists, what is installed, what fits, under which license."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, takes_settings


@takes_settings("provider", "cache_dir")
def models(
    *,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", show_default=False)] = None,
    license: Annotated[
        list[str] | None,
        typer.Option("--license", metavar="NAME", help="Only models under this license; any case, repeatable."),
    ] = None,
    license_tier: Annotated[
        str | None,
        typer.Option("--license-tier", metavar="TIER", help="Only permissive, conditional, research or unknown."),
    ] = None,
    family: Annotated[
        str | None, typer.Option("--family", metavar="NAME", help="Only this family: phi, qwen, llama …")
    ] = None,
    role: Annotated[str | None, typer.Option("--role", metavar="NAME", help="Only the model with this role.")] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Only what is on this machine, with its last use.")
    ] = False,
    fits: Annotated[bool, typer.Option("--fits", help="Only what roughly fits the free memory.")] = False,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="KEY", help="By name, size, parameters, license or used.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print refs only.")] = False,
    json: Json = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """List models: what exists, what is installed, what fits, under which license.

    TEXT keeps the models whose name, repo or family holds it; filters combine. The built-in
    guide comes first. SIZE is of the variant for this machine; FITS is rough: weights, a cache
    for 4,096 tokens and the runtime against the free memory.
    """
    from lmsupply_cli.cli.context import store_root
    from lmsupply_cli.cli.models.listing import Filters, list_models, row_json, table_lines
    from lmsupply_cli.cli.places import say_notes, skipped_lines, unfinished_lines
    from lmsupply_cli.cli.provider import pull_wishes
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.paths import settings_file
    from lmsupply_cli.render.terminal import Terminal

    terminal = Terminal.of_process()
    settings = read_settings(flags, environ=terminal.environ, path=settings_file(), skip_bad=True)
    root, provider = store_root(settings), pull_wishes(settings)[0]
    say_notes(terminal, skipped_lines(settings, root) + ([] if quiet else unfinished_lines(root)))
    filters = Filters(text or "", tuple(license or ()), license_tier, family, role, installed, fits)
    rows = list_models(root, filters, sort=sort, provider=provider)
    if json:
        terminal.json({"models": [row_json(row) for row in rows]})
    elif quiet:
        for row in rows:
            terminal.data(row.ref)
    else:
        for line in table_lines(rows, root, width=terminal.width, installed=installed):
            terminal.data(line)
