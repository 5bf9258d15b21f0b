"""Pull a model: the plan for this machine, consent to its license, the transfer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

from lmsupply_cli import paths
from lmsupply_cli.catalogue.acceptance import accept, license_page, needs_acceptance, refusal
from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.errors import LicenseNotAccepted
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.loading.importing import ImportWish
from lmsupply_cli.loading.recommend import machine_choice, machine_wish
from lmsupply_cli.loading.sourcing import SourceImport, fetch_and_import, plan_model
from lmsupply_cli.providers import CPU
from lmsupply_cli.store.locate import LocatedModel, located
from lmsupply_cli.store.manifest import Manifest
from lmsupply_cli.store.plan import FetchPlan, PullPlan
from lmsupply_cli.store.pull import refuse_what_never_runs, run_pull


class VariantKeywords(TypedDict, total=False):
    """What `pull` takes to choose a variant, for type checkers."""

    provider: str
    precision: str
    variant: str | None


def pull(
    ref: str,
    *,
    cache_dir: Path | str | None = None,
    accept_license: bool = False,
    offline: bool = False,
    listener: ProgressListener | None = None,
    **wanted: Unpack[VariantKeywords],
) -> LocatedModel:
    """Download the variant for this machine, or the one for `provider`, `precision` and `variant`. Files that are
    already here are not downloaded again. A repository without a variant is imported from its GGUF file, or from its
    safetensors.

    A license that is not permissive needs `accept_license` once; the acceptance is recorded. Raises ModelNotFound,
    ModelNotInstalled (offline), LicenseNotAccepted, HubError, ModelFilesError, UsageError.
    """

    def consent(plan: FetchPlan) -> None:
        repo, license = plan.tree.repo, plan.license
        if not needs_acceptance(repo, license):
            return
        if not accept_license:
            raise LicenseNotAccepted(
                refusal(plan.ref, license),
                hint=f"Read it at {license_page(repo, license)}, then pass `accept_license=True`",
            )
        accept(plan.ref, repo, plan.tree.commit, license)

    root = paths.store_root(cache_dir)
    wish = machine_wish(**wanted, exact=True)
    plan = plan_for(
        ref,
        root,
        wish,
        ImportWish.of("auto" if wish.by_machine else wish.precision),
        offline=offline,
        listener=listener,
    )
    return located(fetch(plan, root, consent=consent, listener=listener), root)


def plan_for(
    ref: str,
    root: Path,
    wish: VariantWish,
    convert: ImportWish = ImportWish(),  # noqa: B008  # frozen
    *,
    offline: bool = False,
    listener: ProgressListener | None = None,
) -> PullPlan | SourceImport:
    """What a pull of `ref`, a role too, would fetch; `convert`: how it stores a model that must be imported. Raises
    ModelNotFound, ModelNotInstalled, ModelFilesError, HubError, UsageError."""
    plan = plan_model(ref, root, wish, convert, offline=offline, listener=listener)
    if isinstance(plan, SourceImport):
        return plan
    return replace(plan, obstacles=(*_unusable(wish.provider), *plan.obstacles))


def _unusable(provider: str) -> list[Obstacle]:
    """That this machine cannot use the provider that was asked for: the variant may be meant for another one."""
    if provider == CPU.name:
        return []
    state = next(state for state in machine_choice().states if state.name == provider)
    if state.usable:
        return []
    lifted = (f"`provider={provider}`",)
    return [Obstacle(f"{provider} cannot be used on this machine: {state.reason}", state.fix, lifted_by=lifted)]


def fetch(
    plan: PullPlan | SourceImport,
    root: Path,
    *,
    consent: Callable[[FetchPlan], None],
    keep: bool = False,
    listener: ProgressListener | None = None,
) -> Manifest:
    """Carry out a plan; `consent` raises LicenseNotAccepted; `keep`: as in `fetch_and_import`. Raises HubError,
    ModelFilesError, UntrustedModelFiles."""
    if isinstance(plan, SourceImport):
        return fetch_and_import(plan, root, consent=consent, keep=keep, listener=listener)
    refuse_what_never_runs(plan)
    consent(plan)
    return run_pull(plan, root, listener=listener)
