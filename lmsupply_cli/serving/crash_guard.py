"""Ends the loop of a model that crashes again and again."""

from __future__ import annotations

from collections.abc import Callable

from lmsupply_cli.errors import WorkerDied
from lmsupply_cli.units import format_duration

MOST_CRASHES = 3  # in a row
REFUSED_S = 60.0


class CrashGuard:
    """Counts crashes without success in between."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._in_a_row = 0
        self._until = 0.0

    def crashed(self) -> None:
        """From the third in a row on, `check` refuses for a while."""
        self._in_a_row += 1
        if self._in_a_row >= MOST_CRASHES:
            self._until = self._clock() + REFUSED_S

    def worked(self) -> None:
        """It did not crash."""
        self._in_a_row = 0

    @property
    def refused_s(self) -> float:
        """Seconds until it may be tried again."""
        return max(0.0, self._until - self._clock()) if self._in_a_row >= MOST_CRASHES else 0.0

    def check(self, ref: str) -> None:
        """Raises WorkerDied."""
        if left := self.refused_s:
            raise WorkerDied(
                f"{ref} crashed {self._in_a_row} times in a row while it was loaded; "
                f"lmsupply tries again in {format_duration(left)}",
                hint="less memory may be free than it needs; lmsupply verify checks its files",
            )
