"""`lmsupply hw`: what this machine is, what the engine can use, what to pull, and where things are."""

from __future__ import annotations

from lmsupply_cli.cli.options import Debug, Json


def hw(*, json: Json = False, debug: Debug = False) -> None:
    """Show what this machine is and what the engine can use."""
    from lmsupply_cli.cli.choose import store_root
    from lmsupply_cli.cli.machine import INDENT, machine_json, machine_lines, read_machine
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.paths import settings_file
    from lmsupply_cli.render.terminal import Terminal

    terminal = Terminal.of_process()
    machine = read_machine(store_root(read_settings(environ=terminal.environ, path=settings_file())))
    if json:
        terminal.json(machine_json(machine))
    else:
        for line in machine_lines(machine):
            terminal.data(line, indent=INDENT)
