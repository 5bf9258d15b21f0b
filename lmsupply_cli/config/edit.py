"""Change the settings file and nothing else in it: comments, order, unknown space and the ends of lines stay."""

from __future__ import annotations

import codecs
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

from lmsupply_cli.config.layers import read_file
from lmsupply_cli.errors import SettingsError


def set_value(path: Path, key: str, value: Any) -> None:
    """Write `key = value` where the key stands, else at the end. Raises SettingsError for a file that is broken."""
    read_file(path)
    lines = _lines(path)
    span = _span(lines, key)
    end = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    row = f"{key} = {literal(value)}{end}"
    if span is None:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += end
        lines.append(row)
    else:
        lines[span[0] : span[1]] = [row]
    _write(path, lines)


def unset_value(path: Path, key: str) -> bool:
    """Remove `key`; False where it was not there."""
    read_file(path)
    lines = _lines(path)
    span = _span(lines, key)
    if span is None:
        return False
    del lines[span[0] : span[1]]
    _write(path, lines)
    return True


def literal(value: Any) -> str:
    """A value as TOML; JSON's texts, numbers and lists are TOML's too."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode()
    except FileNotFoundError:
        return []
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]  # no newline ends it
    return lines if lines[-1] else lines[:-1]


def _span(lines: list[str], key: str) -> tuple[int, int] | None:
    """First line of the key's entry, and the one after it: a list may go over several."""
    for start, line in enumerate(lines):
        if line.split("=")[0].strip() == key and "=" in line:
            for end in range(start + 1, len(lines) + 1):
                try:
                    tomllib.loads("".join(lines[start:end]))
                except tomllib.TOMLDecodeError:
                    continue
                return start, end
    return None


def _write(path: Path, lines: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.resolve()  # a link stays a link
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes("".join(lines).encode())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}", hint="is its folder writable?") from error
