"""Edit a text in the user's editor."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import our_io_error, read_bytes, split_command


def edit_text(text: str, environ: Mapping[str, str]) -> str:
    """What `text` became in $VISUAL or $EDITOR. Raises UsageError if there is none or it failed."""
    command = environ.get("VISUAL") or environ.get("EDITOR") or ("notepad" if sys.platform == "win32" else "vi")
    with our_io_error("a file for the editor", error=UsageError):
        handle, name = tempfile.mkstemp(suffix=".md", prefix="lmsupply-")
    path = Path(name)
    try:
        with our_io_error(path, error=UsageError), os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            done = subprocess.run([*split_command(command), name], check=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot run the editor {command!r}: {error}", hint="set $EDITOR to an installed editor"
            ) from error
        if done.returncode:
            raise UsageError(f"the editor {command!r} failed with code {done.returncode}: nothing was changed")
        return read_bytes(path, error=UsageError).decode("utf-8", errors="replace")
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
