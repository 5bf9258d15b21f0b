"""Notes of the commands that only look: settings, records and places that cannot be used, and unfinished pulls."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lmsupply_cli.catalogue.lookup import read_skipped
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.files import NO_HOME, is_folder
from lmsupply_cli.render.flags import as_flags
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.manifest import read_records
from lmsupply_cli.units import format_bytes


def skipped_lines(settings: Settings, root: Path) -> list[str]:
    """A line for each setting, each of the user's own models and each record of the store that was skipped, and for each
    added folder that is gone."""
    records = read_records(root)
    lines = [f"skipped: {text}" for text in (*settings.skipped, *read_skipped(), *records.skipped)]
    gone = [m for m in records.manifests if m.added and not is_folder(root / m.folder)]
    return lines + [f"the folder of {m.ref} is missing: {m.folder}; lmsupply rm {m.ref} unregisters it" for m in gone]


def unfinished_lines(root: Path) -> list[str]:
    """The size of what unfinished pulls, imports and removals left in the store."""
    if not is_folder(root):
        return []
    from lmsupply_cli.store.leftovers import find_leftovers

    left = find_leftovers(root)
    if not left.size_bytes:
        return []
    size, names = format_bytes(left.size_bytes), ", ".join((*left.files, *left.imports))
    of = f" of {names}" if names else ""
    what = "import" if left.imports and not left.files else "pull or removal"
    return [f"an unfinished {what} left {size}{of}; lmsupply rm --partial removes it"]


def say_notes(terminal: Terminal, lines: Iterable[str]) -> None:
    for line in lines:
        terminal.say(f"note: {as_flags(line)}")


def shown_place(path: Path) -> str:
    """A path for people."""
    return "nowhere: the home folder is unknown; set HOME or LMSUPPLY_HOME" if NO_HOME in path.parents else str(path)
