"""`lmsupply pull`: download models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import AcceptLicense, Debug, Json, Quiet, takes_settings

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context
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
    from lmsupply_cli.cli.fetching import plan_json, plan_rows, pull_plan, say_plan
    from lmsupply_cli.errors import LmsupplyError
    from lmsupply_cli.render.fields import print_fields

    context = Context.of(flags, quiet=quiet)
    terminal, settings, root = context.terminal, context.settings, context.root
    provider = settings.get("provider")

    def pull_one(name: str) -> None:
        plan = _planned(name, context, variant)
        if plan is None:
            return
        if dry_run:
            if json:
                terminal.json(plan_json(plan, provider))
            else:
                print_fields(terminal, plan_rows(plan))
            return
        if json:
            terminal.json_event("plan", **plan_json(plan, provider))
        else:
            say_plan(plan, terminal)
        manifest = pull_plan(plan, root, terminal, accepted=accept_license, as_json=json)
        if json:
            terminal.json_event("finished", ref=manifest.ref, path=str(root / manifest.folder))

    for number, name in enumerate(names, 1):
        try:
            pull_one(name)
        except LmsupplyError:
            if left := names[number:]:
                terminal.say(f"note: not tried: {', '.join(left)}")
            raise


def _planned(name: str, context: Context, variant: str | None) -> PullPlan | None:
    """The plan; None, with a line that says so, for an installed model that cannot be looked up. Raises LmsupplyError."""
    from lmsupply_cli.cli.fetching import plan_for
    from lmsupply_cli.errors import LmsupplyError, ModelNotInstalled
    from lmsupply_cli.store.locate import locate

    try:
        return plan_for(name, context.settings, context.root, context.terminal, variant=variant)
    except ModelNotInstalled as offline:
        try:
            model = locate(name, context.root)
        except LmsupplyError:
            raise offline from None
        context.terminal.say(f"{model.ref} is installed; offline, so it is not checked for updates")
        return None
