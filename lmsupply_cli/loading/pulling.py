"""Pull a model from a program."""

from __future__ import annotations

from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.acceptance import accept, licence_page, needs_acceptance, refusal
from lmsupply_cli.errors import LicenceNotAccepted
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.hardware.choice import choose_provider
from lmsupply_cli.hardware.detect import detect_hardware
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.hardware.wheels import detect_engine_wheels
from lmsupply_cli.loading.recommend import named_by_role
from lmsupply_cli.store.locate import LocatedModel, located
from lmsupply_cli.store.pull import plan_pull, refuse_what_never_runs, run_pull


def pull(
    ref: str,
    *,
    provider: str = "auto",
    precision: str = "auto",
    variant: str | None = None,
    cache_dir: Path | str | None = None,
    accept_license: bool = False,
    offline: bool = False,
    listener: ProgressListener | None = None,
) -> LocatedModel:
    """Fetch the variant for this machine, or for `provider` and `precision`; what is here already is not fetched.

    A licence that is not permissive needs `accept_license` once, and is recorded. Raises ModelNotFound,
    ModelNotInstalled (offline), LicenceNotAccepted, HubError, ModelFilesError, UsageError.
    """
    root, on_cpu = paths.store_root(cache_dir), provider == "cpu"
    if provider == "auto":
        choice = choose_provider(detect_hardware(), detect_engine_wheels())
        provider, precision = choice.provider, choice.precision if precision == "auto" else precision
    name = named_by_role(ref, lambda: detect_memory().available_bytes)
    plan = plan_pull(
        name,
        root,
        provider=provider,
        precision=precision,
        variant=variant,
        offline=offline,
        on_cpu=on_cpu,
        listener=listener,
    )
    refuse_what_never_runs(plan)
    if needs_acceptance(plan.tree.repo, plan.licence):
        if not accept_license:
            raise LicenceNotAccepted(
                refusal(plan.ref, plan.licence),
                hint=f"read it at {licence_page(plan.tree.repo, plan.licence)}, then pass accept_license=True",
            )
        accept(plan.ref, plan.tree.repo, plan.tree.commit, plan.licence)
    return located(run_pull(plan, root, listener=listener), root)
