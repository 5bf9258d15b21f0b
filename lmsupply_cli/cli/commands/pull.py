"""`lmsupply pull`: download models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Quiet, takes_settings


@takes_settings("provider", "precision", "cache_dir", "offline")
def pull(
    *,
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False)],
    accept_license: Annotated[bool, typer.Option("--accept-license", help="Accept the licence that is shown.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Download a model.

    MODEL is a name of the catalogue or owner/repo[@revision][:variant]. The variant for the
    provider is chosen and said, with its size and licence, before anything is fetched.
    """
    from lmsupply_cli import paths
    from lmsupply_cli.cli.choose import check_allowed, store_root
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.errors import LicenceNotAccepted
    from lmsupply_cli.render.terminal import Terminal
    from lmsupply_cli.runtime.pull import plan_pull, run_pull
    from lmsupply_cli.units import format_bytes

    terminal = Terminal.of_process(quiet=quiet)
    settings = read_settings(flags, environ=terminal.environ, path=paths.settings_file())
    root = store_root(settings)
    for name in names:
        plan = plan_pull(
            name,
            provider=settings.get("provider"),
            precision=settings.get("precision"),
            offline=settings.get("offline"),
        )
        chosen, licence = plan.resolution.chosen, plan.licence
        check_allowed(plan.ref, licence.id, licence.tier, settings)
        terminal.say(f"{plan.ref}: {chosen.folder or plan.tree.repo} ({'; '.join(plan.resolution.reasons)})")
        terminal.say(f"{format_bytes(plan.fetch_bytes)}, licence {licence.id} ({licence.tier})")
        if licence.tier != "permissive" and not accept_license:
            terms = f": {licence.restrictions}" if licence.restrictions else ""
            raise LicenceNotAccepted(
                f"{plan.ref} has the licence {licence.id} ({licence.tier}){terms}",
                hint=f"read it{' at ' + licence.url if licence.url else ''}, then add --accept-license",
            )
        manifest = run_pull(plan, root, progress=terminal.stderr_tty and not terminal.quiet)
        terminal.say(f"{manifest.ref} is installed; talk with it: lmsupply chat {manifest.ref}")
