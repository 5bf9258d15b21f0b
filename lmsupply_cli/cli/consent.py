"""May this model be used, and did the user accept its license?"""

from __future__ import annotations

from lmsupply_cli.catalogue.acceptance import accept, license_page, needs_acceptance
from lmsupply_cli.catalogue.entry import License
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.errors import FileError, LicenseNotAccepted
from lmsupply_cli.render.terminal import Terminal


def check_allowed(ref: str, license: License, settings: Settings) -> None:
    """The settings allowed_licenses and allowed_tiers apply to every command. Raises LicenseNotAccepted."""
    for key, have in (("allowed_licenses", license.id), ("allowed_tiers", license.tier)):
        wanted = settings.get(key)
        if wanted and have.lower() not in {name.lower() for name in wanted}:
            raise LicenseNotAccepted(
                f"{ref}: {license.label}, and {key} allows only {', '.join(wanted)}",
                hint=f"lmsupply models --license{'-tier' if key == 'allowed_tiers' else ''} {wanted[0]}",
            )


def ask_for(repo: str, license: License, terminal: Terminal, *, otherwise: str, both: str) -> bool:
    """Ask `both` below the terms of a license that has to be accepted first, or `otherwise`. The license itself was
    shown with the plan."""
    if not needs_acceptance(repo, license):
        return terminal.ask(otherwise)
    terms = f"terms: {license.restrictions}\n" if license.restrictions else ""
    return terminal.ask(f"{terms}{license_page(repo, license)}\n{both}")


def ensure_accepted(ref: str, repo: str, commit: str, license: License, terminal: Terminal, *, accepted: bool) -> None:
    """Permissive licenses need no acceptance. For others, ask once and record the answer.

    Raises LicenseNotAccepted without a terminal to ask on, or if the answer is no.
    """
    if not needs_acceptance(repo, license):
        return
    if not accepted:
        if not (terminal.stdin_tty and terminal.stderr_tty):
            raise LicenseNotAccepted(
                f"{ref}: {license.terms}",
                hint=f"Read it at {license_page(repo, license)}, then rerun with --accept-license",
            )
        accepted = ask_for(repo, license, terminal, otherwise="", both="Accept the license and download?")
    if not accepted:
        raise LicenseNotAccepted(f"license of {ref} not accepted; nothing was downloaded")
    try:
        accept(ref, repo, commit, license)
    except FileError as error:  # it was accepted all the same
        terminal.say(f"note: cannot record your acceptance, so lmsupply will ask again: {error.message}")
