"""`lmsupply completion SHELL`: print the script that completes commands, options and models."""

from __future__ import annotations

from typing import Annotated

import typer


def completion(
    *, shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish|powershell", show_default=False)]
) -> None:
    """Print the completion script of a shell.

    The first lines of each script say how to install it.
    """
    from lmsupply_cli.cli.complete import script

    typer.echo(script(shell), nl=False)
