"""`lmsupply pull`: download models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import AcceptLicense, Debug, Json, KeepSource, Quiet, takes_settings

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.fetching import Plan, PullRequest
    from lmsupply_cli.store.locate import LocatedModel

EXAMPLES = (
    ("lmsupply pull phi-4-mini", "the variant for this machine"),
    ("lmsupply pull microsoft/Phi-3.5-mini-instruct-onnx --dry-run", "show what would be downloaded"),
    ("lmsupply pull qwen3-4b --precision int8", "another precision"),
    ("lmsupply pull Qwen/Qwen2.5-3B-Instruct-GGUF", "imported from the GGUF file for this machine"),
)


@takes_settings("provider", "precision", "cache_dir", "offline")
def pull(
    *,
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", show_default=False)],
    variant: Annotated[
        str | None, typer.Option("--variant", metavar="NAME", help="The variant: a folder, or a part of its name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be downloaded.")] = False,
    keep_source: KeepSource = False,
    accept_license: AcceptLicense = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Download a model.

    MODEL is a name from lmsupply models, or owner/repo[@revision][:variant] on the Hugging Face
    Hub. Picks the variant for your machine and shows its size and license first. A repository without one is imported
    from GGUF (owner/repo:q8_0 names a file) or from safetensors. Interrupted downloads resume; files are verified.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.fetching import PullRequest
    from lmsupply_cli.errors import LmsupplyError

    context = Context.of(flags, quiet=quiet)
    for number, name in enumerate(names, 1):
        try:
            request = PullRequest(dry_run, keep_source, accept_license, json)
            _pull(name, context, variant, request)
        except LmsupplyError:
            if left := names[number:]:
                context.terminal.say(f"note: not tried: {', '.join(left)}")
            raise


def _pull(name: str, context: Context, variant: str | None, request: PullRequest) -> None:
    """Raises LmsupplyError."""
    from lmsupply_cli.cli.fetching import pull_shown
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.store.locate import LocatedModel
    from lmsupply_cli.store.plan import PullPlan

    plan = _planned(name, context, variant, dry_run=request.dry_run)
    if isinstance(plan, LocatedModel):
        context.terminal.say(f"{plan.ref} is installed; lmsupply is offline and did not look for a newer version")
        if request.as_json:
            context.terminal.json_event("finished", ref=plan.ref, path=str(plan.path))
        return
    if request.keep and isinstance(plan, PullPlan):
        raise UsageError(
            f"--keep-source has no effect: {plan.ref} is used as it is downloaded", hint="leave out --keep-source"
        )
    pull_shown(plan, context, request, context.settings.get("provider"), asks=True)


def _planned(name: str, context: Context, variant: str | None, *, dry_run: bool) -> Plan | LocatedModel:
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
