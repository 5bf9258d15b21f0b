"""`lmsupply pull`: download models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import AcceptLicense, Debug, Json, Quiet, takes_settings

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.store.locate import LocatedModel
    from lmsupply_cli.store.plan import PullPlan

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
    from lmsupply_cli.errors import LmsupplyError

    context = Context.of(flags, quiet=quiet)
    for number, name in enumerate(names, 1):
        try:
            _pull(name, context, variant=variant, accepted=accept_license, dry_run=dry_run, as_json=json)
        except LmsupplyError:
            if left := names[number:]:
                context.terminal.say(f"note: not tried: {', '.join(left)}")
            raise


def _pull(name: str, context: Context, *, variant: str | None, accepted: bool, dry_run: bool, as_json: bool) -> None:
    """Raises LmsupplyError."""
    from lmsupply_cli.cli.fetching import plan_json, plan_rows, pull_plan, say_plan
    from lmsupply_cli.render.fields import print_fields
    from lmsupply_cli.store.locate import LocatedModel

    terminal, root, provider = context.terminal, context.root, context.settings.get("provider")
    plan = _planned(name, context, variant, dry_run=dry_run)
    if isinstance(plan, LocatedModel):
        terminal.say(f"{plan.ref} is installed; lmsupply is offline and did not look for a newer version")
        if as_json:
            terminal.json_event("finished", ref=plan.ref, path=str(plan.path))
    elif dry_run and as_json:
        terminal.json(plan_json(plan, provider))
    elif dry_run:
        print_fields(terminal, plan_rows(plan))
    else:
        if as_json:
            terminal.json_event("plan", **plan_json(plan, provider))
        else:
            say_plan(plan, terminal)
        manifest = pull_plan(plan, root, terminal, accepted=accepted, as_json=as_json)
        if as_json:
            terminal.json_event("finished", ref=manifest.ref, path=str(root / manifest.folder))


def _planned(name: str, context: Context, variant: str | None, *, dry_run: bool) -> PullPlan | LocatedModel:
    """The plan; offline, the model itself if it is installed and no other variant is wanted. Raises LmsupplyError."""
    from lmsupply_cli.cli.fetching import plan_for
    from lmsupply_cli.cli.prepare import required_precision
    from lmsupply_cli.errors import LmsupplyError, ModelNotInstalled
    from lmsupply_cli.store.locate import locate

    try:
        return plan_for(name, context.settings, context.root, context.terminal, variant=variant)
    except ModelNotInstalled as offline:
        if variant or dry_run:
            raise
        try:
            return locate(name, context.root, precision=required_precision(context.settings))
        except LmsupplyError:
            raise offline from None
