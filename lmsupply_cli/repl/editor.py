"""Edit a text in the user's editor."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from lmsupply_cli.editor import run_editor
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import our_io_error, read_bytes

_UNCHANGED = "nothing was changed or sent"
_DEFAULT = "notepad" if sys.platform == "win32" else "vi"


def edit_text(text: str, environ: Mapping[str, str]) -> str:
    """What `text` became in the user's editor. Raises UsageError."""
    with (
        our_io_error("a file for the editor", error=UsageError),
        TemporaryDirectory(prefix="lmsupply-", ignore_cleanup_errors=True) as folder,
    ):
        path = Path(folder) / "message.md"
        path.write_text(text, encoding="utf-8")
        try:
            run_editor(path, environ, default=_DEFAULT)
        except UsageError as error:  # the file goes with its folder
            raise UsageError(error.message, hint=f"set $EDITOR; {_UNCHANGED}") from error
        return read_bytes(path, error=UsageError).decode("utf-8", errors="replace")
