"""One line on stderr that comes and goes: what takes a while, while it does. Nothing without a terminal."""

from __future__ import annotations

from typing import IO


class Status:
    def __init__(self, file: IO[str], *, enabled: bool) -> None:
        self._file = file
        self._enabled = enabled
        self._shown = False

    def show(self, text: str) -> None:
        if self._enabled:
            self._file.write(f"\r\x1b[K{text}")
            self._file.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._file.write("\r\x1b[K")
            self._file.flush()
            self._shown = False
