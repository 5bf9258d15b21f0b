"""The user's own models.toml: entries like those of the catalogue. One that cannot be used says nothing about the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lmsupply_cli.catalogue.entry import CatalogueEntry
from lmsupply_cli.catalogue.rows import entry_of
from lmsupply_cli.errors import SettingsError
from lmsupply_cli.files import is_absent, parse_toml, read_text


class Skipped(NamedTuple):
    """`ref`: what the entry is called, "" if that cannot be said; `text`: its place and what is wrong."""

    ref: str
    text: str


def read_own(file: Path, licenses: Mapping[str, Any]) -> tuple[list[CatalogueEntry], list[Skipped]]:
    """`licenses`: those that an entry may name beside the file's own."""
    if is_absent(file):
        return [], []
    try:
        text = read_text(file, error=SettingsError)
        data = parse_toml(text, str(file), error=SettingsError)
    except SettingsError as error:
        return [], [Skipped("", error.message)]
    rows, own_licenses = data.get("model", []), data.get("licenses", {})
    if not isinstance(rows, list) or not isinstance(own_licenses, dict):
        return [], [Skipped("", f"{file}: entries begin with [[model]], licenses with [licenses.NAME]")]
    places = [number for number, line in enumerate(text.split("\n"), 1) if line.split("#")[0].strip() == "[[model]]"]
    found, skipped = [], []
    for index, row in enumerate(rows):
        place = f"{file}:{places[index]}" if len(places) == len(rows) else str(file)
        try:
            found.append(entry_of(row, {**licenses, **own_licenses}))
        except ValueError as error:
            ref = row.get("ref") if isinstance(row, dict) else None
            name = ref.lower() if isinstance(ref, str) else ""
            skipped.append(Skipped(name, f"{place}: {f'model {ref}: ' if name else ''}{error}"))
    return found, skipped
