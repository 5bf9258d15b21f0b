"""Convert a model of the Hub for a person: `convert owner/repo`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from lmsupply_cli.cli.consent import check_allowed, ensure_accepted
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.fetching import PullRequest, pull_shown, show_plan
from lmsupply_cli.cli.importing import say_written
from lmsupply_cli.errors import UsageError
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.hub.sources import GGUF, SAFETENSORS
from lmsupply_cli.loading.importing import ImportWish, check_new
from lmsupply_cli.loading.sourcing import SourceImport, fetch_and_convert, plan_model
from lmsupply_cli.providers import CPU
from lmsupply_cli.render.progress import JsonProgress, pull_progress
from lmsupply_cli.store.locate import parse_repo
from lmsupply_cli.store.plan import SourcePlan


def convert_repo(context: Context, name: str, wish: ImportWish, out: Path | None, request: PullRequest) -> None:
    """Its safetensors, or its GGUF where it has none or one is named, into the store, or into the folder `out`. Raises
    LmsupplyError."""
    if out:
        check_new(out)
    planned = _planned(context, name, wish)
    check_allowed(planned.ref, planned.plan.license, context.settings)
    if out is None or request.dry_run:
        pull_shown(planned, context, request, CPU.name)
        return
    show_plan(planned, context.terminal, request, CPU.name)
    terminal = context.terminal

    def consent(plan: SourcePlan) -> None:
        ensure_accepted(plan.ref, plan.tree.repo, plan.tree.commit, plan.license, terminal, accepted=request.accepted)

    with nullcontext(JsonProgress(terminal)) if request.as_json else pull_progress(terminal) as listener:
        fetch_and_convert(planned, context.root, out, consent=consent, keep=request.keep, listener=listener)
    say_written(terminal, out, as_json=request.as_json)


def _planned(context: Context, name: str, wish: ImportWish) -> SourceImport:
    """Raises LmsupplyError."""
    offline, wanted = context.settings.get("offline"), parse_repo(name)
    formats = (None,) if wanted and wanted.variant else (SAFETENSORS, GGUF)
    refused: UsageError | None = None
    for variant in formats:
        try:
            with pull_progress(context.terminal) as listener:
                plan = plan_model(
                    name, context.root, VariantWish(variant=variant), wish, offline=offline, listener=listener
                )
        except UsageError as error:
            refused = refused or error
            continue
        if isinstance(plan, SourceImport):
            return plan
        raise UsageError(f"{name} is already in ONNX GenAI format", hint=f"lmsupply pull {name}")
    raise UsageError(f"{name} has no safetensors and no GGUF to convert", hint=f"lmsupply pull {name}") from refused
