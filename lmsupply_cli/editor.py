"""The user's editor."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lmsupply_cli.errors import UsageError


def run_editor(file: Path, environ: Mapping[str, str], *, default: str = "") -> bool:
    """Edit `file` with $VISUAL or $EDITOR, else `default`, and wait; whether the file changed. Raises UsageError if there
    is no editor or it failed."""
    editor = environ.get("VISUAL") or environ.get("EDITOR") or default
    if not editor:
        raise UsageError("no editor set", hint=f"set $EDITOR, or edit {file} yourself")
    before = _content(file)
    try:
        code = subprocess.run([*_words(editor), str(file)], check=False).returncode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot run the editor {editor!r}: {reason}", hint="set $EDITOR to an installed editor"
        ) from error
    if code:
        raise UsageError(f"the editor {editor!r} failed with code {code}", hint=f"the file is {file}")
    return _content(file) != before


def _content(file: Path) -> bytes:
    """Nothing for a file that is not there."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _words(command: str) -> list[str]:
    """The words of a command line; the backslashes of Windows paths stay. Raises ValueError."""
    if os.name != "nt":
        return shlex.split(command)
    return [word.strip('"') for word in shlex.split(command, posix=False)]
