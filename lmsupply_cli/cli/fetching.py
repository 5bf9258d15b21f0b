"""Pull a model for a person: consent, plan, progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmsupply_cli.addresses import without_user
from lmsupply_cli.cli.consent import check_allowed, ensure_accepted
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.events import Notice, ProgressListener
from lmsupply_cli.loading import pulling
from lmsupply_cli.render.fields import Row
from lmsupply_cli.render.flags import as_flags
from lmsupply_cli.render.progress import JsonProgress, pull_progress
from lmsupply_cli.render.status import Status
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.manifest import Manifest
from lmsupply_cli.store.plan import PullPlan
from lmsupply_cli.units import format_bytes


def plan_for(name: str, settings: Settings, root: Path, terminal: Terminal, *, variant: str | None = None) -> PullPlan:
    """Raises what planning raises, and LicenseNotAccepted; a line says that the Hub is asked."""
    status = terminal.status()
    status.show(f"asking the Hub about {without_user(name)} …")
    try:
        plan = pulling.plan_for(
            name,
            root,
            provider=settings.get("provider"),
            precision=settings.get("precision"),
            variant=variant,
            offline=settings.get("offline"),
            listener=_Waits(terminal, status),
        )
    finally:
        status.clear()
    check_allowed(plan.ref, plan.license, settings)
    return plan


class _Waits(ProgressListener):
    """Notices above a status line."""

    def __init__(self, terminal: Terminal, status: Status) -> None:
        self._terminal, self._status = terminal, status

    def notice(self, notice: Notice) -> None:
        self._status.clear()
        self._terminal.notice(notice)


def say_plan(plan: PullPlan, terminal: Terminal) -> None:
    """Two lines before anything is fetched."""
    terminal.say(f"{plan.ref}: {plan.resolution.chosen.name}, {', '.join(plan.resolution.reasons)}")
    here = plan.total_bytes - plan.fetch_bytes
    kept = f", {format_bytes(here)} of it here already" if here else ""
    terminal.say(f"{format_bytes(plan.total_bytes)}{kept}; license {plan.license.id} ({plan.license.tier})")


def pull_plan(plan: PullPlan, root: Path, terminal: Terminal, *, accepted: bool, as_json: bool = False) -> Manifest:
    """Raises LicenseNotAccepted, HubError, ModelFilesError, UntrustedModelFiles."""

    def consent(plan: PullPlan) -> None:
        ensure_accepted(plan.ref, plan.tree.repo, plan.tree.commit, plan.license, terminal, accepted=accepted)

    if as_json:
        return pulling.fetch(plan, root, consent=consent, listener=JsonProgress(terminal))
    with pull_progress(terminal) as listener:
        return pulling.fetch(plan, root, consent=consent, listener=listener)


def plan_json(plan: PullPlan, provider: str) -> dict[str, Any]:
    chosen = plan.resolution.chosen
    return {
        "model": {"ref": plan.ref, "repo": plan.tree.repo, "commit": plan.tree.commit},
        "chosen": {
            "variant": chosen.folder,
            "provider": chosen.device or provider,
            "precision": chosen.precision or None,
            "reasons": list(plan.resolution.reasons),
        },
        "rejected": [{"variant": variant.folder, "reason": reason} for variant, reason in plan.resolution.rejected],
        "files": [
            {"path": p.file.path, "size_bytes": p.file.size_bytes, "have_bytes": p.have_bytes} for p in plan.files
        ],
        "fetch_bytes": plan.fetch_bytes,
        "free_disk_bytes": plan.free_disk_bytes,
        "license": license_json(plan.license),
        "obstacles": obstacles_json(plan.obstacles),
    }


def obstacles_json(obstacles: Sequence[Obstacle]) -> list[dict[str, Any]]:
    return [
        {
            "reason": as_flags(o.text),
            "hint": as_flags(o.hint) or None,
            "file": o.file or None,
            "lifted_by": [as_flags(name) for name in o.lifted_by],
        }
        for o in obstacles
    ]


def obstacle_rows(obstacles: Sequence[Obstacle]) -> list[Row]:
    """What does not run here, and what may not."""
    return [("may fail" if o.lifted_by else "cannot run", o.note) for o in obstacles]


def license_json(license: Any) -> dict[str, Any]:
    return {
        "id": license.id,
        "tier": license.tier,
        "url": license.url or None,
        "restrictions": license.restrictions or None,
    }


def plan_rows(plan: PullPlan) -> list[Row]:
    """What --dry-run shows."""
    chosen, license = plan.resolution.chosen, plan.license
    return [
        ("model", f"{plan.ref} from {plan.tree.repo} at {plan.tree.commit[:12]}"),
        ("variant", f"{chosen.name}: {'; '.join(plan.resolution.reasons)}"),
        *obstacle_rows(plan.obstacles),
        *(("not", f"{variant.name}: {reason}") for variant, reason in plan.resolution.rejected),
        ("license", f"{license.id} ({license.tier})" + (f": {license.restrictions}" if license.restrictions else "")),
        *(
            ("file", f"{p.file.path}  {format_bytes(p.file.size_bytes)}" + (_have(p.have_bytes, p.file.size_bytes)))
            for p in plan.files
        ),
        ("to fetch", f"{format_bytes(plan.fetch_bytes)} of {format_bytes(plan.total_bytes)}"),
        ("free disk", format_bytes(plan.free_disk_bytes) + ("" if plan.fits_disk else ": not enough")),
    ]


def _have(have: int, size: int) -> str:
    return "" if not have else ", here already" if have == size else f", {format_bytes(have)} here already"
