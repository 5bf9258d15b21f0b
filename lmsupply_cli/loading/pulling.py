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
from lmsupply_cli.loading.recommend import machine_choice, machine_wish, named_by_role
from lmsupply_cli.providers import CPU
from lmsupply_cli.store.locate import LocatedModel, located
from lmsupply_cli.store.manifest import Manifest
from lmsupply_cli.store.plan import PullPlan
from lmsupply_cli.store.pull import plan_pull, refuse_what_never_runs, run_pull


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
    already here are not downloaded again.

    A license that is not permissive needs `accept_license` once; the acceptance is recorded. Raises ModelNotFound,
    ModelNotInstalled (offline), LicenseNotAccepted, HubError, ModelFilesError, UsageError.
    """

    def consent(plan: PullPlan) -> None:
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
    plan = plan_for(ref, root, machine_wish(**wanted, exact=True), offline=offline, listener=listener)
    return located(fetch(plan, root, consent=consent, listener=listener), root)


def plan_for(
    ref: str, root: Path, wish: VariantWish, *, offline: bool = False, listener: ProgressListener | None = None
) -> PullPlan:
    """What a pull of `ref`, a role too, would fetch. Raises ModelNotFound, ModelNotInstalled, HubError, UsageError."""
    plan = plan_pull(named_by_role(ref), root, wish, offline=offline, listener=listener)
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
    plan: PullPlan, root: Path, *, consent: Callable[[PullPlan], None], listener: ProgressListener | None = None
) -> Manifest:
    """Carry out a plan; `consent` raises LicenseNotAccepted. Raises HubError, ModelFilesError, UntrustedModelFiles."""
    refuse_what_never_runs(plan)
    consent(plan)
    return run_pull(plan, root, listener=listener)
