"""`lmsupply pull`: download models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import AcceptLicense, Debug, Json, Quiet, takes_settings


@takes_settings("provider", "precision", "cache_dir", "offline")
def pull(
    *,
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False)],
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", help="The variant: a folder, or a part of its name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, and stop.")] = False,
    accept_license: AcceptLicense = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Download a model.

    MODEL is a name of the catalogue or owner/repo[@revision][:variant]. The variant for this
    machine is chosen and said, with its size and license, before anything is fetched. What was
    interrupted goes on where it stopped; every byte is checked.
    """
    from lmsupply_cli import paths
    from lmsupply_cli.cli.context import store_root
    from lmsupply_cli.cli.fetching import plan_for, plan_json, plan_rows, pull_plan, say_plan
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.render.sheet import print_sheet
    from lmsupply_cli.render.terminal import Terminal

    terminal = Terminal.of_process(quiet=quiet)
    settings = read_settings(flags, environ=terminal.environ, path=paths.settings_file())
    root, provider = store_root(settings), settings.get("provider")
    for name in names:
        plan = plan_for(name, settings, root, terminal, variant=variant)
        if dry_run:
            if json:
                terminal.json(plan_json(plan, provider))
            else:
                print_sheet(terminal, plan_rows(plan), width=11)
            continue
        if json:
            terminal.json_event("plan", **plan_json(plan, provider))
        else:
            say_plan(plan, terminal)
        manifest = pull_plan(plan, root, terminal, accepted=accept_license, as_json=json)
        if json:
            terminal.json_event("finished", ref=manifest.ref, path=str(root / manifest.folder))
        else:
            terminal.say(f"{manifest.ref} is installed; talk with it: lmsupply chat {manifest.ref}")
