"""`lmsupply hw`: the hardware, the usable execution providers, what to pull, and where things are."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsupply_cli.cli.options import Debug, Json

EXAMPLES = (
    ("lmsupply hw", "hardware, providers, recommended model"),
    ("lmsupply hw --models", "which models fit"),
)


def hw(
    *,
    models: Annotated[
        bool, typer.Option("--models", help="Also list the catalogue, with memory needed and maximum context here.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load the engine and run the built-in guide on each usable provider.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show hardware, usable execution providers, and a recommended model.

    The engine is not loaded unless you pass --check: its providers are read from the installed
    packages. Anything that can't be detected is listed as a note.
    """
    from lmsupply_cli.cli.consent import allowed_by, license_notes
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.hw.machine import machine_json, machine_rows, print_model_fits, read_machine
    from lmsupply_cli.cli.places import skipped_lines
    from lmsupply_cli.render.fields import print_fields

    context = Context.of(skip_bad=True)
    terminal, root = context.terminal, context.root
    notes = [*license_notes(context.settings), *skipped_lines(context.settings, root)]
    machine = read_machine(root, notes, allowed=allowed_by(context.settings))
    checks = []
    if check:
        from lmsupply_cli.cli.hw.check import check_providers

        checks = check_providers([state.name for state in machine.providers if state.usable])
    if json:
        more = {"checks": [vars(found) for found in checks]} if check else {}
        terminal.json(machine_json(machine) | more)
    else:
        print_fields(terminal, machine_rows(machine) + [("Check", found.text) for found in checks])
        if models:
            print_model_fits(terminal, machine)
    if not all(found.ok for found in checks):
        raise typer.Exit(1)
