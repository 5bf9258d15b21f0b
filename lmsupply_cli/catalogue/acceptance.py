"""Licenses that the user accepted: a file that a person can read and keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.addresses import hub_address
from lmsupply_cli.catalogue.entry import License, license_id
from lmsupply_cli.errors import SettingsError
from lmsupply_cli.files import is_absent, read_json, write_json
from lmsupply_cli.locks import locked

SCHEMA = 2  # 1 spelled `license` otherwise, also in the name of the file, and is read too


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What was accepted, at which revision of the repo, on which day (ISO)."""

    ref: str
    repo: str
    license: str
    tier: str
    revision: str
    date: str
    url: str = ""


def acceptance_file() -> Path:
    return paths.config_dir() / "accepted-licenses.json"


def read_acceptances() -> list[Acceptance]:
    """Raises SettingsError for a file that is damaged: consent is never guessed. A row that is none accepts nothing."""
    return [found for row in _rows() if (found := _acceptance(row))]


def needs_acceptance(repo: str, license: License) -> bool:
    """Permissive licenses need no acceptance; others are accepted once."""
    return license.tier != "permissive" and not is_accepted(repo, license.id)


def accept(ref: str, repo: str, commit: str, license: License) -> None:
    """Raises SettingsError for a file that is damaged, FileError where it cannot be written."""
    page = license_page(repo, license)
    record(Acceptance(ref, repo, license.id, license.tier, commit, date.today().isoformat(), page))


def refusal(ref: str, license: License) -> str:
    return f"the license of {ref} is not accepted: {license.terms}"


def license_page(repo: str, license: License) -> str:
    """Where to read it: the license's own page, else that of the repo on the Hub."""
    return license.url or f"{hub_address()}/{repo}"


def is_accepted(repo: str, license: str) -> bool:
    return any(a.repo.lower() == repo.lower() and a.license == license for a in read_acceptances())


def record(acceptance: Acceptance) -> None:
    """As `accept`."""
    with _changed() as rows:
        rows[:] = [row for row in rows if not _is_same(_acceptance(row), acceptance)]
        rows.append(asdict(acceptance))


def revoke(name: str) -> list[Acceptance]:
    """Take back what was accepted for a ref or repo; the rows that went. As `accept`."""
    gone: list[Acceptance] = []
    with _changed() as rows:
        for row in list(rows):
            found = _acceptance(row)
            if found and name.lower() in (found.ref.lower(), found.repo.lower()):
                gone.append(found)
                rows.remove(row)
    return gone


def _is_same(one: Acceptance | None, other: Acceptance) -> bool:
    return one is not None and (one.repo.lower(), one.license) == (other.repo.lower(), other.license)


def _acceptance(row: Any) -> Acceptance | None:
    """None for what is no acceptance; what a newer lmsupply says beside it does not matter."""
    if not isinstance(row, dict):
        return None
    row = {"license": row.get("licence")} | row  # schema 1
    values = {field.name: row.get(field.name, "" if field.name == "url" else None) for field in fields(Acceptance)}
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    if len(texts) < len(values):
        return None
    return Acceptance(**texts | {"license": license_id(texts["license"])})


def _rows() -> list[Any]:
    path = acceptance_file()
    path = path if not is_absent(path) else path.with_name("accepted-licences.json")
    hint = "repair or remove it; lmsupply then asks you to accept licenses again"
    if is_absent(path):
        return []
    try:
        data = read_json(path, error=SettingsError)
    except SettingsError as error:
        raise SettingsError(f"the record of accepted licenses is damaged: {error.message}", hint=hint) from error
    schema, rows = (data.get("schema", SCHEMA), data.get("accepted")) if isinstance(data, dict) else (SCHEMA, None)
    if isinstance(schema, int) and schema > SCHEMA:
        raise SettingsError(f"{path} was written by a newer lmsupply", hint="pip install -U lmsupply")
    if not isinstance(rows, list):
        raise SettingsError(f"{path} is damaged: it has no list of what was accepted", hint=hint)
    return rows


@contextmanager
def _changed() -> Iterator[list[Any]]:
    """The rows of the file, to be changed in the block: nobody else changes them meanwhile, and none is lost."""
    path = acceptance_file()
    with locked(path.with_name(".lock"), waiting=lambda: None):
        rows = _rows()
        before = list(rows)
        yield rows
        if rows != before:
            write_json(path, {"schema": SCHEMA, "accepted": rows})
