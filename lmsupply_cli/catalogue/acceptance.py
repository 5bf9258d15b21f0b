"""Licences that the user accepted: a file that a person can read and keep."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import Licence
from lmsupply_cli.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What was accepted, at which revision of the repo, on which day (ISO)."""

    ref: str
    repo: str
    licence: str
    tier: str
    revision: str
    date: str
    url: str = ""


def acceptance_file() -> Path:
    return paths.config_dir() / "accepted-licences.json"


def read_acceptances() -> list[Acceptance]:
    """Raises SettingsError for a file that is damaged: consent is never guessed."""
    path = acceptance_file()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["accepted"]
        return [Acceptance(**row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path} is damaged: {error}", hint="mend or remove it; licences are then asked for again"
        ) from error


def needs_acceptance(repo: str, licence: Licence) -> bool:
    """Permissive licences need nothing; others are accepted once."""
    return licence.tier != "permissive" and not is_accepted(repo, licence.id)


def accept(ref: str, repo: str, commit: str, licence: Licence) -> None:
    page = licence_page(repo, licence)
    record(Acceptance(ref, repo, licence.id, licence.tier, commit, date.today().isoformat(), page))


def refusal(ref: str, licence: Licence) -> str:
    terms = f": {licence.restrictions}" if licence.restrictions else ""
    return f"{ref} has the licence {licence.id} ({licence.tier}){terms}"


def licence_page(repo: str, licence: Licence) -> str:
    return licence.url or f"https://huggingface.co/{repo}"


def is_accepted(repo: str, licence: str) -> bool:
    return any(a.repo.lower() == repo.lower() and a.licence == licence for a in read_acceptances())


def record(acceptance: Acceptance) -> None:
    others = [
        a for a in read_acceptances() if (a.repo.lower(), a.licence) != (acceptance.repo.lower(), acceptance.licence)
    ]
    _write([*others, acceptance])


def revoke(name: str) -> list[Acceptance]:
    """Take back what was accepted for a ref or repo; the rows that went."""
    rows = read_acceptances()
    gone = [a for a in rows if name.lower() in (a.ref.lower(), a.repo.lower())]
    if gone:
        _write([a for a in rows if a not in gone])
    return gone


def _write(rows: list[Acceptance]) -> None:
    path = acceptance_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    text = json.dumps({"schema": 1, "accepted": [asdict(row) for row in rows]}, indent=1, ensure_ascii=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
