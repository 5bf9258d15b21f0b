"""`lmsupply models`: what is available, what is installed, what fits, under which license."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, check_one_of, takes_settings

EXAMPLES = (
    ("lmsupply models --installed", "what is on this machine"),
    ("lmsupply models --license mit --fits", "models under MIT that fit the memory"),
    ("lmsupply models qwen --json", "matching models as JSON"),
    ("lmsupply models --found", "the models of Ollama, LM Studio and other programs"),
)


@takes_settings("provider", "cache_dir")
def models(
    *,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", show_default=False)] = None,
    license: Annotated[
        list[str] | None,
        typer.Option("--license", metavar="NAME", help="Only models under this license; case-insensitive; repeatable."),
    ] = None,
    license_tier: Annotated[
        str | None,
        typer.Option("--license-tier", metavar="TIER", help="Only permissive, conditional, research or unknown."),
    ] = None,
    family: Annotated[
        str | None, typer.Option("--family", metavar="NAME", help="Only this family: phi, qwen, llama …")
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            "--role",
            metavar="NAME",
            help="Only models with this role: default, fast, small, quality, multilingual, reasoning …",
        ),
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Only installed models; also shows when each was last used.")
    ] = False,
    found: Annotated[
        bool,
        typer.Option(
            "--found",
            help="List models found in the folders of Ollama, LM Studio and other programs. Each runs by the name shown.",
        ),
    ] = False,
    fits: Annotated[bool, typer.Option("--fits", help="Only models that should fit in the free memory.")] = False,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="KEY", help="Sort by name, size, parameters, license or used.")
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Also show where the installed models are.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only model names.")] = False,
    json: Json = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """List models: available, installed, size, license, and whether they should fit.

    Show only models whose name, repo or family contains TEXT; filters combine. SIZE is that of
    the variant for this machine. FITS is an estimate of whether the weights, a cache for 4,096 tokens and the
    runtime fit in the free memory. A role, such as role:fast, is an ordered list of models: lmsupply uses the best one
    that fits.
    """
    from lmsupply_cli.cli.consent import allowed_by, license_notes
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.models.listing import Filters, check_filters, list_models, nothing_matches, row_json
    from lmsupply_cli.cli.models.table import print_models
    from lmsupply_cli.cli.places import say_notes, skipped_lines, unfinished_lines
    from lmsupply_cli.loading.recommend import machine_wish

    check_one_of({"--quiet": quiet, "--json": json, "--paths": paths and not json})
    context = Context.of(flags, skip_bad=True)
    terminal, root = context.terminal, context.root
    if found:
        for_catalogue = {
            "--license": license, "--license-tier": license_tier, "--family": family, "--role": role,
            "--installed": installed, "--fits": fits, "--sort": sort,
        }  # fmt: skip
        for flag, value in for_catalogue.items():
            check_one_of({"--found": True, flag: value})
        from lmsupply_cli.cli.models.found import list_found

        list_found(terminal, root, text or "", paths=paths, quiet=quiet, as_json=json)
        return
    say_notes(terminal, skipped_lines(context.settings, root) + ([] if quiet else unfinished_lines(root)))
    filters = Filters(text or "", tuple(license or ()), license_tier, family, role, installed, fits)
    check_filters(filters, sort)
    wish = machine_wish(context.settings.get("provider"), context.settings.get("precision"))
    rows = list_models(root, filters, wish, sort=sort, allowed=allowed_by(context.settings))
    if not quiet:
        say_notes(terminal, license_notes(context.settings))
    if json:
        terminal.json({"models": [row_json(row) for row in rows]})
    elif quiet:
        for row in rows:
            terminal.data(row.ref)
    elif not rows:
        terminal.say(nothing_matches(root, filters))
    else:
        print_models(terminal, rows, root, filters, sort=sort, paths=paths)
