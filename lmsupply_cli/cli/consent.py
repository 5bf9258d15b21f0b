"""May this model be used, and did the user accept its licence?"""

from __future__ import annotations

from lmsupply_cli.catalogue.acceptance import accept, licence_page, needs_acceptance, refusal
from lmsupply_cli.catalogue.entry import Licence
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.errors import FileError, LicenceNotAccepted
from lmsupply_cli.render.terminal import Terminal


def check_allowed(ref: str, licence: Licence, settings: Settings) -> None:
    """The settings allowed_licenses and allowed_tiers hold for every command. Raises LicenceNotAccepted."""
    for key, have in (("allowed_licenses", licence.id), ("allowed_tiers", licence.tier)):
        wanted = settings.get(key)
        if wanted and have.lower() not in {name.lower() for name in wanted}:
            raise LicenceNotAccepted(
                f"{ref} has the licence {licence.id} ({licence.tier}), and {key} allows only {', '.join(wanted)}",
                hint=f"lmsupply models --license{'-tier' if key == 'allowed_tiers' else ''} {wanted[0]}",
            )


def ensure_accepted(ref: str, repo: str, commit: str, licence: Licence, terminal: Terminal, *, accepted: bool) -> None:
    """Permissive licences need nothing. Others are asked for once, and recorded.

    Raises LicenceNotAccepted where nobody can be asked, or the answer is no.
    """
    if not needs_acceptance(repo, licence):
        return
    if not accepted:
        told, page = refusal(ref, licence), licence_page(repo, licence)
        if not (terminal.stdin_tty and terminal.stderr_tty):
            raise LicenceNotAccepted(told, hint=f"read it at {page}, then add --accept-license")
        accepted = terminal.ask(f"{told}\n{page}\nDo you accept it?")
    if not accepted:
        raise LicenceNotAccepted(f"the licence of {ref} was not accepted", hint="nothing was fetched")
    try:
        accept(ref, repo, commit, licence)
    except FileError as error:  # it was accepted all the same
        terminal.say(f"note: that cannot be recorded, so it will be asked for again: {error.message}")
