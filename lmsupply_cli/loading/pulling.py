"""Pull a model: the plan for this machine, consent to its license, the transfer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

from lmsupply_cli import paths
from lmsupply_cli.catalogue.acceptance import accept, license_page, needs_acceptance, refusal
from lmsupply_cli.config.values import check_value
from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.errors import LicenseNotAccepted
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.hardware.choice import choose_provider, provider_states
from lmsupply_cli.hardware.detect import detect_hardware
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.hardware.wheels import detect_engine_wheels
from lmsupply_cli.loading.recommend import named_by_role
from lmsupply_cli.providers import CPU
from lmsupply_cli.store.locate import LocatedModel, located
from lmsupply_cli.store.manifest import Manifest
from lmsupply_cli.store.plan import PullPlan
from lmsupply_cli.store.pull import plan_pull, refuse_what_never_runs, run_pull


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantWish:
    """Which variant to pull: `provider` and `precision`, "auto" for what suits this machine; `variant`: its folder, or a
    unique part of the name. Raises UsageError."""

    provider: str = "auto"
    precision: str = "auto"
    variant: str | None = None

    def __post_init__(self) -> None:
        for key in ("provider", "precision"):
            check_value(key, getattr(self, key))

    def for_machine(self) -> VariantWish:
        """With a provider, and its precision where none is wished for."""
        if self.provider != "auto":
            return self
        choice = choose_provider(detect_hardware(), detect_engine_wheels())
        precision = choice.precision if self.precision == "auto" else self.precision
        return replace(self, provider=choice.provider, precision=precision)


class VariantKeywords(TypedDict, total=False):
    """The fields of `VariantWish`, for type checkers."""

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
    """Fetch the variant for this machine, or for `provider`, `precision` and `variant`; what is here already is not
    fetched.

    A license that is not permissive needs `accept_license` once, and is recorded. Raises ModelNotFound,
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
    plan = plan_for(ref, root, offline=offline, listener=listener, **wanted)
    return located(fetch(plan, root, consent=consent, listener=listener), root)


def plan_for(
    ref: str,
    root: Path,
    *,
    offline: bool = False,
    exact: bool = True,
    listener: ProgressListener | None = None,
    **wanted: Unpack[VariantKeywords],
) -> PullPlan:
    """What a pull of `ref`, a role too, would fetch for this machine. `exact`: no precision but the given one will do;
    otherwise it ranks first. Raises ModelNotFound, ModelNotInstalled, HubError, UsageError."""
    wish = VariantWish(**wanted)
    choice = wish.for_machine()
    plan = plan_pull(
        named_by_role(ref, lambda: detect_memory().available_bytes),
        root,
        provider=choice.provider,
        precision=choice.precision,
        variant=choice.variant,
        offline=offline,
        on_cpu=wish.provider == CPU.name,
        exact=exact and wish.precision != "auto",
        listener=listener,
    )
    return replace(plan, obstacles=(*_unusable(wish.provider), *plan.obstacles))


def _unusable(provider: str) -> list[Obstacle]:
    """That this machine cannot use the provider that was asked for: the variant may be meant for another one."""
    if provider in ("auto", CPU.name):
        return []
    states = provider_states(detect_hardware(), detect_engine_wheels())
    state = next(state for state in states if state.name == provider)
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
