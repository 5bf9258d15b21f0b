"""Pull a model for a person: the plan, one question, progress, and a last line that says what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lmsupply_cli.addresses import without_user
from lmsupply_cli.catalogue.lookup import forgiving_entry
from lmsupply_cli.cli.consent import ask_for, check_allowed, ensure_accepted, named_for
from lmsupply_cli.cli.importing import import_wish
from lmsupply_cli.cli.sourcing import import_json, import_rows, is_conversion, source_line, source_name
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.errors import ModelNotInstalled
from lmsupply_cli.events import FileProgress, Notice, ProgressListener
from lmsupply_cli.loading import pulling
from lmsupply_cli.loading.recommend import machine_wish
from lmsupply_cli.loading.sourcing import SourceImport
from lmsupply_cli.providers import CPU
from lmsupply_cli.render.fields import Row, print_fields
from lmsupply_cli.render.flags import as_flags
from lmsupply_cli.render.progress import JsonProgress, pull_progress
from lmsupply_cli.render.terminal import Status, Terminal
from lmsupply_cli.store.manifest import Manifest
from lmsupply_cli.store.plan import FetchPlan, PullPlan
from lmsupply_cli.store.pull import refuse_what_never_runs
from lmsupply_cli.units import format_bytes, format_duration

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context

Plan = PullPlan | SourceImport


class PullRequest(NamedTuple):
    """What the flags say. `keep`: of a model that is imported, what was downloaded stays; `accepted`: the license."""

    dry_run: bool = False
    keep: bool = False
    accepted: bool = False
    as_json: bool = False


def plan_for(name: str, settings: Settings, root: Path, terminal: Terminal, *, variant: str | None = None) -> Plan:
    """A precision given as a flag is required, one from the settings is preferred. Raises what planning raises, and
    LicenseNotAccepted."""
    if entry := forgiving_entry(without_user(name)):  # known without the Hub
        check_allowed(entry.ref, entry.license, settings)
    status = terminal.status()
    status.show(f"looking up {without_user(name)} on the Hub …")
    try:
        plan = pulling.plan_for(
            named_for(name, settings),
            root,
            machine_wish(
                settings.get("provider"),
                settings.get("precision"),
                variant,
                exact=settings.value("precision").source == "flag",
            ),
            import_wish(settings),
            offline=settings.get("offline"),
            listener=_Waits(terminal, status),
        )
    finally:
        status.clear()
    check_allowed(plan.ref, fetched_by(plan).license, settings)
    return plan


def fetched_by(plan: Plan) -> FetchPlan:
    """What is downloaded."""
    return plan.plan if isinstance(plan, SourceImport) else plan


class _Waits(ProgressListener):
    """Notices above a status line."""

    def __init__(self, terminal: Terminal, status: Status) -> None:
        self._terminal, self._status = terminal, status

    def notice(self, notice: Notice) -> None:
        self._status.clear()
        self._terminal.notice(notice)


def is_up_to_date(plan: Plan) -> bool:
    return plan.installed is not None if isinstance(plan, SourceImport) else plan.up_to_date


def say_plan(plan: Plan, terminal: Terminal) -> None:
    """The line before anything is fetched."""
    if not is_up_to_date(plan):
        terminal.say(_plan_line(plan))


def _plan_line(plan: Plan) -> str:
    """Which variant and why, its size, its license."""
    if isinstance(plan, SourceImport):
        return source_line(plan)
    reasons = ", ".join(plan.resolution.reasons)
    here = plan.total_bytes - plan.fetch_bytes
    kept = f" ({format_bytes(here)} already here)" if here else ""
    return (
        f"{plan.ref}: {plan.resolution.chosen.name} ({reasons}), "
        f"{format_bytes(plan.total_bytes)}{kept}, {plan.license.label}"
    )


def ask_to_pull(plan: Plan, terminal: Terminal, *, accepted: bool = False) -> bool:
    """One question, for the download and for a license that has to be `accepted` first. The plan was printed before; if
    quiet, it is part of the question."""
    about = f"{_plan_line(plan)}\n" if terminal.quiet else ""
    question = f"{about}Pull it now?"
    if accepted:
        return terminal.ask(question)
    fetched = fetched_by(plan)
    return ask_for(fetched.tree.repo, fetched.license, terminal, otherwise=question, both=f"{about}Pull and accept?")


def pull_shown(
    plan: Plan, context: Context, request: PullRequest, provider: str, *, asks: bool = False
) -> Manifest | None:
    """Show a plan, then carry it out; None after a dry run. `asks`: a person is asked before a conversion, which takes far
    more than a download. Raises ModelNotInstalled if the answer is no, and as `pull_plan`."""
    terminal, accepted = context.terminal, request.accepted
    show_plan(plan, terminal, request, provider)
    if request.dry_run:
        return None
    if asks and not request.as_json and _needs_answer(plan, terminal):
        refuse_what_never_runs(fetched_by(plan))
        if not ask_to_pull(plan, terminal, accepted=accepted):
            raise ModelNotInstalled(f"{plan.ref} was not pulled")
        accepted = True
    manifest = pull_plan(plan, context.root, terminal, accepted=accepted, as_json=request.as_json, keep=request.keep)
    if request.as_json:
        terminal.json_event("finished", ref=manifest.ref, path=str(context.root / manifest.folder))
    return manifest


def _needs_answer(plan: Plan, terminal: Terminal) -> bool:
    if not (terminal.stdin_tty and terminal.stderr_tty) or is_up_to_date(plan):
        return False
    return isinstance(plan, SourceImport) and is_conversion(plan)


def show_plan(plan: Plan, terminal: Terminal, request: PullRequest, provider: str) -> None:
    """As the request wants it: all of it for a dry run, an event, or a line."""
    if request.dry_run and not request.as_json:
        print_fields(terminal, plan_rows(plan, keep=request.keep))
    elif request.dry_run:
        terminal.json(plan_json(plan, provider, keep=request.keep))
    elif request.as_json:
        terminal.json_event("plan", **plan_json(plan, provider, keep=request.keep))
    else:
        say_plan(plan, terminal)


def pull_plan(
    plan: Plan, root: Path, terminal: Terminal, *, accepted: bool, as_json: bool = False, keep: bool = False
) -> Manifest:
    """`keep`: of a model that is imported, what was downloaded stays. Raises LicenseNotAccepted, HubError,
    ModelFilesError, UntrustedModelFiles."""

    def consent(plan: FetchPlan) -> None:
        ensure_accepted(plan.ref, plan.tree.repo, plan.tree.commit, plan.license, terminal, accepted=accepted)
        tally.begin()

    tally = _Tally(fetched_by(plan))
    try:
        with nullcontext(JsonProgress(terminal)) if as_json else pull_progress(terminal) as shown:
            tally.shown = shown
            manifest = pulling.fetch(plan, root, consent=consent, keep=keep, listener=tally)
    except KeyboardInterrupt:
        if tally.began:
            terminal.say(tally.stopped)
        raise
    if not as_json:
        taken = "is up to date" if is_up_to_date(plan) else tally.finished
        terminal.say(f"{manifest.ref} {taken}" + _imported(manifest, plan))
    return manifest


def _imported(manifest: Manifest, plan: Plan) -> str:
    """How much the model takes that was made of the download."""
    if not isinstance(plan, SourceImport) or is_up_to_date(plan):
        return ""
    return f", imported as {plan.form.precision}: {format_bytes(manifest.size_bytes)}"


class _Tally(ProgressListener):
    """Counts the bytes of a download, for its last line, and forwards everything to `shown`."""

    def __init__(self, plan: FetchPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self.shown = ProgressListener()
        self.began: float | None = None
        self._clock = clock
        self._here = self._done = plan.total_bytes - plan.fetch_bytes
        self._total = plan.total_bytes

    def begin(self) -> None:
        self.began = self._clock()

    def file(self, progress: FileProgress) -> None:
        if progress.step == "download":
            self._done, self._total = progress.all_done_bytes, progress.all_bytes
        self.shown.file(progress)

    def notice(self, notice: Notice) -> None:
        self.shown.notice(notice)

    @property
    def stopped(self) -> str:
        done, total = format_bytes(self._done), format_bytes(self._total)
        if done.split()[-1] == total.split()[-1]:
            done = done.split()[0]
        return f"Stopped at {done} of {total}. Run the same command to resume."

    @property
    def finished(self) -> str:
        """`installed: 2.7 GB in 3m12s (14 MB/s)`: the bytes that were fetched, and how fast."""
        taken_s = max(0.001, self._clock() - (self.began or 0))
        fetched = max(0, self._done - self._here)
        if not fetched:
            return f"installed: {format_bytes(self._total)}, nothing to download"
        speed = f"{format_bytes(fetched)} in {format_duration(taken_s)} ({format_bytes(fetched / taken_s)}/s)"
        resumed = f", {format_bytes(self._total)} in total" if self._here else ""
        return f"installed: {speed}{resumed}"


class _Chosen(NamedTuple):
    """What a plan takes, in words. `label`: what kind of thing it is; `folder`: its name in JSON."""

    label: str
    name: str
    folder: str
    provider: str
    precision: str
    reasons: Sequence[str]
    rejected: Sequence[tuple[str, str, str]]


def _chosen(plan: Plan, provider: str) -> _Chosen:
    """`rejected` of it: (name, name in JSON, reason)."""
    if isinstance(plan, SourceImport):
        choice, source = plan.plan.choice, plan.plan.source
        rejected = [(other.name, other.name, reason) for other, reason in choice.rejected]
        return _Chosen("source", source_name(plan), source.name, CPU.name, source.precision, choice.reasons, rejected)
    found, variant = plan.resolution, plan.resolution.chosen
    rejected = [(other.name, other.folder, reason) for other, reason in found.rejected]
    device = variant.device or provider
    return _Chosen("variant", variant.name, variant.folder, device, variant.precision, found.reasons, rejected)


def plan_json(plan: Plan, provider: str, *, keep: bool = False) -> dict[str, Any]:
    fetched, chosen = fetched_by(plan), _chosen(plan, provider)
    imported = {"import": import_json(plan, keep=keep)} if isinstance(plan, SourceImport) else {}
    return {
        "model": {"ref": plan.ref, "repo": fetched.tree.repo, "commit": fetched.tree.commit},
        "chosen": {
            "variant": chosen.folder,
            "provider": chosen.provider,
            "precision": chosen.precision or None,
            "reasons": list(chosen.reasons),
        },
        "rejected": [{"variant": folder, "reason": reason} for _, folder, reason in chosen.rejected],
        "files": [
            {"path": p.file.path, "size_bytes": p.file.size_bytes, "have_bytes": p.have_bytes} for p in fetched.files
        ],
        "fetch_bytes": fetched.fetch_bytes,
        "free_disk_bytes": fetched.free_disk_bytes,
        "license": fetched.license.as_dict(),
        **imported,
        "obstacles": obstacles_json(fetched.obstacles),
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
    """What does not run here, and what may fail."""
    return [("may fail" if o.lifted_by else "cannot run", as_flags(o.note)) for o in obstacles]


def plan_rows(plan: Plan, *, keep: bool = False) -> list[Row]:
    """What --dry-run shows."""
    fetched, chosen = fetched_by(plan), _chosen(plan, "")
    imported = isinstance(plan, SourceImport)
    needed = fetched.fetch_bytes + (plan.write_bytes if isinstance(plan, SourceImport) else 0)
    fits = needed <= fetched.free_disk_bytes if imported else fetched.fits_disk
    fate = "" if not imported else ", kept" if keep else ", removed after the import"
    return [
        ("model", f"{plan.ref} from {fetched.tree.repo} at {fetched.tree.commit[:12]}"),
        (chosen.label, f"{chosen.name}: {'; '.join(chosen.reasons)}"),
        *([("precision", f"{plan.form.precision} ({plan.reason})")] if isinstance(plan, SourceImport) else []),
        *obstacle_rows(fetched.obstacles),
        *(("not chosen" if imported else "not", f"{name}: {reason}") for name, _, reason in chosen.rejected),
        ("license", fetched.license.terms),
        *(
            ("file", f"{p.file.path}  {format_bytes(p.file.size_bytes)}" + (_have(p.have_bytes, p.file.size_bytes)))
            for p in fetched.files
        ),
        ("download", f"{format_bytes(fetched.fetch_bytes)} of {format_bytes(fetched.total_bytes)}{fate}"),
        *(import_rows(plan) if isinstance(plan, SourceImport) else []),
        ("free disk", format_bytes(fetched.free_disk_bytes) + ("" if fits else ": not enough")),
    ]


def _have(have: int, size: int) -> str:
    return "" if not have else ", already here" if have == size else f", {format_bytes(have)} already here"
