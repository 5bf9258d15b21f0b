"""Standard output and standard error as this program writes to them: what cannot be written is one clear line, and a
reader that went away is no error."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

from lmsupply_cli.errors import FileError
from lmsupply_cli.files import reason_of


class Output:
    """A standard stream, which may be closed, full, or end in a pipe that nobody reads.

    `write` and `flush` raise FileError, and BrokenPipeError. On `quiet` ones, as standard error, nothing is raised: there
    is nobody left to tell. After an error the stream leads nowhere, so that Python's own flush at the end is quiet.
    """

    def __init__(self, file: IO[str] | None, name: str, *, quiet: bool = False) -> None:
        self.file, self._name, self._quiet = file, name, quiet

    def write(self, text: str) -> int:
        try:
            if self.file is None:
                raise OSError("it is closed")
            return self.file.write(text)
        except (OSError, ValueError) as error:
            self._failed(error)
            return 0

    def flush(self) -> None:
        try:
            if self.file is not None:
                self.file.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def isatty(self) -> bool:
        try:
            return self.file is not None and self.file.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        if self.file is None:
            raise OSError(f"{self._name} is closed")
        return self.file.fileno()

    def leads_nowhere(self) -> None:
        """What is still buffered, and what comes, is dropped."""
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass

    def _failed(self, error: Exception) -> None:
        self.leads_nowhere()
        if self._quiet:
            return
        if isinstance(error, BrokenPipeError):
            raise error
        reason = reason_of(error) if isinstance(error, OSError) else "it is closed"
        raise FileError(f"cannot write to {self._name}: {reason}") from error

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
