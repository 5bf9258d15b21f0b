"""`lmsupply pull`: download models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import AcceptLicense, Debug, Json, Quiet, takes_settings

EXAMPLES = (
    ("lmsupply pull phi-4-mini", "the variant for this machine"),
    ("lmsupply pull microsoft/Phi-3.5-mini-instruct-onnx --dry-run", "show what would be downloaded"),
    ("lmsupply pull qwen3-4b --precision int8", "another precision"),
)


@takes_settings("provider", "precision", "cache_dir", "offline")
def pull(
    *,
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False)],
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", help="The variant: a folder, or a part of its name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be downloaded.")] = False,
    accept_license: AcceptLicense = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Download a model.

    MODEL is a name from lmsupply models, or owner/repo[@revision][:variant] on the Hugging Face
    Hub. Picks the variant for your machine and shows its size and license first. Interrupted
    downloads resume; files are verified.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.fetching import plan_for, plan_json, plan_rows, pull_plan, say_plan
    from lmsupply_cli.render.fields import print_fields

    context = Context.of(flags, quiet=quiet)
    terminal, settings, root = context.terminal, context.settings, context.root
    provider = settings.get("provider")
    for name in names:
        plan = plan_for(name, settings, root, terminal, variant=variant)
        if dry_run:
            if json:
                terminal.json(plan_json(plan, provider))
            else:
                print_fields(terminal, plan_rows(plan))
            continue
        if json:
            terminal.json_event("plan", **plan_json(plan, provider))
        else:
            say_plan(plan, terminal)
        manifest = pull_plan(plan, root, terminal, accepted=accept_license, as_json=json)
        if json:
            terminal.json_event("finished", ref=manifest.ref, path=str(root / manifest.folder))
