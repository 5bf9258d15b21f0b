"""Change the settings file and nothing else in it: comments, order, unknown space and the ends of lines stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmsupply_cli.config.lines import read_entries, split_lines, table_start
from lmsupply_cli.config.values import as_text
from lmsupply_cli.errors import SettingsError
from lmsupply_cli.files import is_absent, our_io_error, read_text, write_whole
from lmsupply_cli.locks import locked


def set_value(path: Path, key: str, value: Any) -> None:
    """Write `key = value` where the key stands, else at the end. Raises SettingsError, FileError."""
    with _changed(path) as lines:
        end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
        row = f"{key} = {literal(value)}{end}"
        at = _remove(lines, key)
        if at is None:
            at = table_start(lines)
            if at and not lines[at - 1].endswith("\n"):
                lines[at - 1] += end
        lines.insert(at, row)


def unset_value(path: Path, key: str) -> bool:
    """Remove `key`, also one that no setting has or whose value is broken; False if it was not there."""
    with _changed(path) as lines:
        return _remove(lines, key) is not None


def literal(value: Any) -> str:
    """A value as TOML; JSON's texts, numbers and lists are TOML's too."""
    if isinstance(value, tuple):
        value = [as_text([one]) if isinstance(one, tuple) else one for one in value]
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def _changed(path: Path) -> Iterator[list[str]]:
    """The lines of the file, to be changed in the block: nobody else changes them meanwhile."""
    with locked(path.with_name(".lock"), waiting=lambda: None):
        text = "" if is_absent(path) else read_text(path, error=SettingsError)
        lines = split_lines(text)
        before = list(lines)
        yield lines
        if lines != before:
            with our_io_error(path):
                target = path.resolve()  # a link stays a link
            write_whole(target, "".join(lines), keep_mode=True)


def _remove(lines: list[str], key: str) -> int | None:
    """Take every entry of `key` out; where the first one stood."""
    spans = [(entry.start, entry.end) for entry in read_entries(lines) if entry.key == key]
    for start, end in reversed(spans):
        del lines[start:end]
    return spans[0][0] if spans else None
