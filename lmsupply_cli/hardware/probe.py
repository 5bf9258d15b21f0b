"""Ask a tool of the system, with a time limit. What fails becomes a note, never an error."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

_LIMIT_S = 5.0


class ProbeFailed(Exception):
    """A probe could not find out what it was made for; the text is for people."""


def run_probe(command: Sequence[str], *, limit_s: float = _LIMIT_S) -> str | None:
    """What the command prints, also when it fails; None if it is not there. Raises ProbeFailed on a time-out."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return None
    except subprocess.TimeoutExpired as error:
        raise ProbeFailed(f"{command[0]} did not answer in {limit_s:g} s") from error
    except OSError as error:
        raise ProbeFailed(f"{command[0]} cannot be started: {error.strerror}") from error
    return done.stdout or done.stderr
