"""Standard output and standard error as this program writes to them: what cannot be written is one clear line, and a
reader that went away is no error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from lmsupply_cli.errors import FileError


class Output:
    """A standard stream, which may be closed, full, or end in a pipe that nobody reads.

    `write` and `flush` raise FileError, and BrokenPipeError. On `quiet` ones, as standard error, nothing is raised: there
    is nobody left to tell. After an error the stream leads nowhere, so that Python's own flush at the end is quiet.
    """

    def __init__(self, file: IO[str] | None, name: str, *, quiet: bool = False) -> None:
        self.file, self._name, self._quiet = file, name, quiet
        self._error: Exception | None = None if file else OSError("it is closed")

    def write(self, text: str) -> int:
        return self._tried(lambda file: file.write(text)) if text != "" else 0

    def flush(self) -> None:
        if self.file is not None:
            self._tried(lambda file: file.flush())

    def _tried(self, act: Callable[[IO[str]], Any]) -> Any:
        """Once something failed it fails again: a library may have ignored the first time."""
        if self._error is None and self.file is not None:
            try:
                return act(self.file)
            except (OSError, ValueError) as error:
                self._error = error
                self._leads_nowhere()
        if self._quiet or self._error is None:
            return 0
        if isinstance(self._error, BrokenPipeError):
            raise self._error
        from lmsupply_cli.files import reason_of

        reason = reason_of(self._error) if isinstance(self._error, OSError) else "it is closed"
        raise FileError(f"cannot write to {self._name}: {reason}") from self._error

    def isatty(self) -> bool:
        try:
            return self.file is not None and self.file.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        if self.file is None:
            raise OSError(f"{self._name} is closed")
        return self.file.fileno()

    def _leads_nowhere(self) -> None:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass

    def __getattr__(self, name: str) -> Any:  # encoding and what else libraries ask a stream for
        if name in ("file", "buffer") or self.file is None:  # no way around: what is written into a buffer fails unseen
            raise AttributeError(name)
        return getattr(self.file, name)


def take_over() -> None:
    """Put an Output in the place of both streams: UTF-8 into pipes, whatever the locale."""
    for name, said, quiet in (("stdout", "standard output", False), ("stderr", "standard error", True)):
        stream = getattr(sys, name)
        if isinstance(stream, Output):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")
        setattr(sys, name, Output(stream, said, quiet=quiet))


def give_back() -> None:
    """Flush both, and put back what was there: after a failure it leads nowhere, so Python's own flush is quiet."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Output):
            with suppress(FileError, OSError):
                stream.flush()
            setattr(sys, name, stream.file)
