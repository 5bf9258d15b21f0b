"""May this model be used, and did the user accept its license?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lmsupply_cli.catalogue.entry import License, license_id
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.errors import FileError, LicenseNotAccepted, LmsupplyError
from lmsupply_cli.events import Notice
from lmsupply_cli.render.flags import as_flags
from lmsupply_cli.render.terminal import Terminal

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context

RULES = ("allowed_licenses", "allowed_tiers")


def license_notes(settings: Settings) -> list[str]:
    """Why a list has fewer models: a line for each setting that restricts licenses."""
    return [as_flags(f"{_said(key, settings)}; other models are left out") for key in RULES if settings.get(key)]


def allowed_by(settings: Settings) -> Callable[[License], bool]:
    """Whether the settings allow a license."""
    return lambda license: not _broken_rule(license, settings)


def why_not_allowed(license: License, settings: Settings) -> str:
    """The setting that does not allow the license, and what it allows; "" if all allow it."""
    key = _broken_rule(license, settings)
    return _said(key, settings) if key else ""


def named_for(name: str, settings: Settings) -> str:
    """The name of a model: of a role, the best one for this machine whose license the settings allow. Raises
    ModelNotFound, LicenseNotAccepted."""
    from lmsupply_cli.loading.recommend import named_by_role

    return named_by_role(name, allowed=allowed_by(settings))


def check_allowed(ref: str, license: License, settings: Settings) -> None:
    """The settings allowed_licenses and allowed_tiers apply to every command. Raises LicenseNotAccepted."""
    if key := _broken_rule(license, settings):
        unknown = f"add unknown to `{key}` to allow models that state no license"
        raise LicenseNotAccepted(
            f"{ref}: {license.label}, and {_said(key, settings)}",
            hint=unknown if license.id == "unknown" else "lmsupply models lists what is allowed",
        )


def ask_for(repo: str, license: License, terminal: Terminal, *, otherwise: str, both: str) -> bool:
    """Ask `both` below the terms of a license that has to be accepted first, or `otherwise`. The license itself was
    shown with the plan."""
    from lmsupply_cli.catalogue.acceptance import license_page, needs_acceptance

    if not needs_acceptance(repo, license):
        return terminal.ask(otherwise)
    terms = f"terms: {license.restrictions}\n" if license.restrictions else ""
    return terminal.ask(f"{terms}{license_page(repo, license)}\n{both}")


def ensure_accepted(
    ref: str,
    repo: str,
    commit: str,
    license: License,
    terminal: Terminal,
    *,
    accepted: bool,
    question: str = "Accept the license and download?",
) -> None:
    """Permissive licenses need no acceptance. For others, ask once and record the answer.

    Raises LicenseNotAccepted without a terminal to ask on, or if the answer is no.
    """
    from lmsupply_cli.catalogue.acceptance import accept, license_page, needs_acceptance, refusal

    if not needs_acceptance(repo, license):
        return
    if not accepted:
        if not (terminal.stdin_tty and terminal.stderr_tty):
            raise LicenseNotAccepted(
                refusal(ref, license),
                hint=f"Read it at {license_page(repo, license)}, then rerun with --accept-license",
            )
        accepted = ask_for(repo, license, terminal, otherwise="", both=question)
    if not accepted:
        raise LicenseNotAccepted(f"the license of {ref} is not accepted")
    try:
        accept(ref, repo, commit, license)
    except FileError as error:  # it was accepted all the same
        terminal.say(f"note: cannot record your acceptance, so lmsupply will ask again: {error.message}")


def note_missing(ctx: Context, name: str) -> None:
    """A note if the model, the default from now on, cannot answer."""
    from lmsupply_cli.catalogue.acceptance import needs_acceptance, refusal
    from lmsupply_cli.store.locate import locate

    try:
        model = locate(named_for(name, ctx.settings), ctx.root)
        check_allowed(model.ref, model.license, ctx.settings)
    except LmsupplyError as error:
        ctx.notice(Notice("default_model", "; ".join(filter(None, (error.message, error.hint)))))
        return
    if model.was_pulled and needs_acceptance(model.repo, model.license):
        ctx.notice(Notice("default_model", refusal(model.ref, model.license)))


def _said(key: str, settings: Settings) -> str:
    return f"`{key}` allows only {', '.join(settings.get(key))}"


def _broken_rule(license: License, settings: Settings) -> str:
    """The setting that does not allow the license, "" if all do."""
    for key, have in zip(RULES, (license.id, license.tier), strict=True):
        names = settings.get(key)
        if names and have.lower() not in {license_id(name).lower() for name in names}:
            return key
    return ""
