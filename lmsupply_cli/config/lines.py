"""The lines of a settings file: flat TOML, one `key = value` after the other; a value may go over several lines.

Each entry is found and read by itself, so that a mistake in one says nothing about the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from lmsupply_cli.errors import SettingsError
from lmsupply_cli.files import parse_toml

_ENTRY = re.compile(r"\s*(?P<quote>[\"']?)(?P<key>[\w.-]+)(?P=quote)\s*=")
_TABLE = re.compile(r"\s*\[")
_MOST_LINES = 100  # of one value


class Entry(NamedTuple):
    """`lines[start:end]`. `key` is "" for what is no `key = value`; `problem`: why it has no `value`."""

    key: str
    start: int
    end: int
    value: Any = None
    problem: str = ""


def split_lines(text: str) -> list[str]:
    """With their ends; only a newline ends one."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def read_entries(lines: Sequence[str]) -> list[Entry]:
    """Every entry; the list ends with the first `[table]`, to which what follows would belong."""
    found: list[Entry] = []
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        if line and not line.startswith("#"):
            found.append(_entry(lines, at))
            if _is_table(line):
                break
            at = found[-1].end
        else:
            at += 1
    return found


def table_start(lines: Sequence[str]) -> int:
    """Where the first `[table]` begins, else the end."""
    last = next(reversed(read_entries(lines)), None)
    return last.start if last and _is_table(lines[last.start]) else len(lines)


def _is_table(line: str) -> bool:
    return _TABLE.match(line) is not None


def _entry(lines: Sequence[str], start: int) -> Entry:
    match = _ENTRY.match(lines[start])
    if _is_table(lines[start]):
        return Entry("", start, start + 1, problem="a setting cannot be in a table")
    if match is None:
        return Entry("", start, start + 1, problem="not a `key = value`")
    key, problem = match["key"], ""
    for end in range(start + 1, min(len(lines), start + _MOST_LINES) + 1):
        try:
            values = parse_toml("".join(lines[start:end]), "", error=SettingsError)
        except SettingsError as error:
            problem = problem or _plain(error.message)
            continue
        return Entry(key, start, end, values.get(key, values))
    return Entry(key, start, _next_entry(lines, start), problem=problem)


def _next_entry(lines: Sequence[str], start: int) -> int:
    """Where a value that does not parse ends: at the line that looks like the next entry, or says nothing."""
    end = start + 1
    while end < len(lines) and lines[end].strip() and not re.match(r"\s*[#\[]", lines[end]):
        if _ENTRY.match(lines[end]):
            break
        end += 1
    return end


def _plain(message: str) -> str:
    """A parser's words without its places, which count from the entry."""
    text = re.sub(r" \(at [^)]*\)$", "", message.removeprefix(":").strip())
    return text[:1].lower() + text[1:]
