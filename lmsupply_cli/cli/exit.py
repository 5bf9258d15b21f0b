"""Exit codes that are no error of ours; the others stand with their errors."""

from __future__ import annotations

OK = 0
ERROR = 1
USAGE = 2
BUG = 70
INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived."""
