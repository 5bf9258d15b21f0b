"""What commands that only look say of settings and places that they could not use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lmsupply_cli.catalogue.lookup import read_skipped
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.files import NO_HOME
from lmsupply_cli.render.terminal import Terminal


def skipped_lines(settings: Settings) -> list[str]:
    """A line for each setting and each of the user's own models that was left out."""
    return [f"left out: {text}" for text in (*settings.skipped, *read_skipped())]


def say_notes(terminal: Terminal, lines: Iterable[str]) -> None:
    for line in lines:
        terminal.say(f"note: {line}")


def shown_place(path: Path) -> str:
    """A path for people."""
    return "nowhere: no home folder is known, set HOME or LMSUPPLY_HOME" if NO_HOME in path.parents else str(path)
