"""`lmsupply hw`: what this machine is, what the engine can use, what to pull, and where things are."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsupply_cli.cli.options import Debug, Json


def hw(
    *,
    models: Annotated[
        bool, typer.Option("--models/--no-models", help="Show for each model of the catalogue what fits.")
    ] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Load the engine and run the guide through each usable provider.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what this machine is and what the engine can use.

    Nothing is loaded: the engine's providers are read from the installed packages. --check does
    load it. What a probe cannot find out becomes a note.
    """
    from lmsupply_cli.cli.context import store_root
    from lmsupply_cli.cli.hw.machine import WIDTH, machine_json, machine_rows, read_machine
    from lmsupply_cli.cli.places import skipped_lines
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.paths import settings_file
    from lmsupply_cli.render.sheet import print_sheet
    from lmsupply_cli.render.terminal import Terminal

    terminal = Terminal.of_process()
    settings = read_settings(environ=terminal.environ, path=settings_file(), skip_bad=True)
    root = store_root(settings)
    machine = read_machine(root, skipped_lines(settings, root))
    checks = []
    if check:
        from lmsupply_cli.cli.hw.check import check_providers

        checks = check_providers([state.name for state in machine.providers if state.usable])
    if json:
        more = {"checks": [vars(found) for found in checks]} if check else {}
        terminal.json(machine_json(machine) | more)
    else:
        rows = machine_rows(machine, models=models) + [("check", found.text) for found in checks]
        print_sheet(terminal, rows, width=WIDTH)
    if not all(found.ok for found in checks):
        raise typer.Exit(1)
