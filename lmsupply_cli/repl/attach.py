"""Files in a message: `@path` and /read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.chat.files import read_text
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import expanded, is_file

_AT = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|(\S+))')


@dataclass(frozen=True, slots=True)
class Attached:
    """`missing`: what looks like a file but is not there; it stays in the text as is."""

    text: str
    files: tuple[str, ...]
    missing: tuple[str, ...]


def attach_files(text: str) -> Attached:
    """The message with every file that it names by `@path`, each under its name. Raises UsageError."""
    files: list[str] = []
    missing: list[str] = []
    parts = [text]
    for match in _AT.finditer(text):
        name = _existing(match)
        if name is None:
            written = match.group(1) or match.group(2)
            if re.search(r"[/\\]|\.\w{1,5}$", written):
                missing.append(written)
        elif name not in files:
            files.append(name)
            parts.append(f"{name}:\n\n{read_text(Path(name)).strip(chr(10))}")
    return Attached("\n\n".join(parts), tuple(files), tuple(missing))


def read_file(name: str) -> str:
    """Raises UsageError."""
    text = read_text(Path(name.strip("\"'"))).strip("\n")
    if not text.strip():
        raise UsageError(f"{name} is empty")
    return text


def _existing(match: re.Match[str]) -> str | None:
    """The file that is named; a full stop or a comma after it belongs to the sentence."""
    quoted, bare = match.groups()
    for name in [quoted] if quoted else [bare, bare.rstrip(".,;:!?)")]:
        if name and is_file(expanded(name)):
            return name
    return None
