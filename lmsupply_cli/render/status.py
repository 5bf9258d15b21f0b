"""One line on stderr that comes and goes: what takes a while, while it does. Nothing without a terminal."""

from __future__ import annotations

import shutil
from typing import IO

from lmsupply_cli.render.sanitize import one_line


class Status:
    def __init__(self, file: IO[str], *, enabled: bool) -> None:
        self._file = file
        self._enabled = enabled
        self._shown = False

    def show(self, text: str) -> None:
        if self._enabled:
            room = max(1, shutil.get_terminal_size().columns - 1)  # what wraps could not be taken back
            self._file.write(f"\r\x1b[K{one_line(text)[:room]}")
            self._file.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._file.write("\r\x1b[K")
            self._file.flush()
            self._shown = False
