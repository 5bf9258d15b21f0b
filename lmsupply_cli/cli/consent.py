"""May this model be used, and did the user accept its license?"""

from __future__ import annotations

from lmsupply_cli.catalogue.acceptance import accept, license_page, needs_acceptance, refusal
from lmsupply_cli.catalogue.entry import License
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.errors import FileError, LicenseNotAccepted
from lmsupply_cli.render.terminal import Terminal


def check_allowed(ref: str, license: License, settings: Settings) -> None:
    """The settings allowed_licenses and allowed_tiers hold for every command. Raises LicenseNotAccepted."""
    for key, have in (("allowed_licenses", license.id), ("allowed_tiers", license.tier)):
        wanted = settings.get(key)
        if wanted and have.lower() not in {name.lower() for name in wanted}:
            raise LicenseNotAccepted(
                f"{ref} has the license {license.id} ({license.tier}), and {key} allows only {', '.join(wanted)}",
                hint=f"lmsupply models --license{'-tier' if key == 'allowed_tiers' else ''} {wanted[0]}",
            )


def ensure_accepted(ref: str, repo: str, commit: str, license: License, terminal: Terminal, *, accepted: bool) -> None:
    """Permissive licenses need nothing. Others are asked for once, and recorded.

    Raises LicenseNotAccepted where nobody can be asked, or the answer is no.
    """
    if not needs_acceptance(repo, license):
        return
    if not accepted:
        told, page = refusal(ref, license), license_page(repo, license)
        if not (terminal.stdin_tty and terminal.stderr_tty):
            raise LicenseNotAccepted(told, hint=f"read it at {page}, then add --accept-license")
        accepted = terminal.ask(f"{told}\n{page}\nDo you accept it?")
    if not accepted:
        raise LicenseNotAccepted(f"the license of {ref} was not accepted", hint="nothing was fetched")
    try:
        accept(ref, repo, commit, license)
    except FileError as error:  # it was accepted all the same
        terminal.say(f"note: that cannot be recorded, so it will be asked for again: {error.message}")
