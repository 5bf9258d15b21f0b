"""`lmsupply add`: give a local folder a name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, TrustModelFiles, takes_settings


@takes_settings("cache_dir")
def add(
    *,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
    alias: Annotated[str, typer.Option("--alias", metavar="NAME", help="What to call it.")],
    trust_model_files: TrustModelFiles = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Give a local model folder a name.

    The folder is checked and stays where it is; lmsupply rm NAME forgets it again.
    """
    from lmsupply_cli import paths
    from lmsupply_cli.cli.context import store_root
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.render.terminal import Terminal
    from lmsupply_cli.store.add import add_folder

    terminal = Terminal.of_process()
    root = store_root(read_settings(flags, environ=terminal.environ, path=paths.settings_file()))
    manifest = add_folder(root, folder, alias, trust=trust_model_files)
    terminal.say(f"{manifest.ref} is {manifest.folder}; talk with it: lmsupply chat {manifest.ref}")
