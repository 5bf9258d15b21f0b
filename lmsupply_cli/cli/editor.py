"""Open a file of the user in their editor."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lmsupply_cli.errors import SettingsError, UsageError
from lmsupply_cli.files import split_command


def editor_command(file: Path) -> str:
    """Raises UsageError if neither $VISUAL nor $EDITOR is set."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError("no editor set", hint=f"set $EDITOR, or edit {file} yourself")
    return editor


def open_editor(file: Path) -> bool:
    """Wait for $VISUAL or $EDITOR; whether the file changed. Raises UsageError if there is none, SettingsError if it
    failed."""
    editor, before = editor_command(file), _content(file)
    try:
        code = subprocess.run([*split_command(editor), str(file)], check=False).returncode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot start {editor}: {reason}", hint="set $EDITOR to an installed editor") from error
    if code:
        raise SettingsError(f"{editor} exited with {code}", hint=f"the file is {file}")
    return _content(file) != before


def _content(file: Path) -> bytes:
    """Nothing for a file that is not there."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
