"""`lmsupply completion SHELL`: print the script that completes commands, options and models."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = (
    ("lmsupply completion bash > ~/.local/share/bash-completion/completions/lmsupply", "install for bash"),
    ("lmsupply completion zsh > ~/.zfunc/_lmsupply", "install for zsh"),
)


def completion(
    *, shell: Annotated[str, typer.Argument(metavar="{bash|zsh|fish|powershell}", show_default=False)]
) -> None:
    """Print the completion script of a shell.

    The first lines of each script explain how to install it.
    """
    from lmsupply_cli.cli.complete import script

    typer.echo(script(shell), nl=False)
