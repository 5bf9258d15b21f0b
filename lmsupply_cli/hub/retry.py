"""Try again what may pass: how often, and how long to wait in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lmsupply_cli.errors import HubError

T = TypeVar("T")


class Transient(HubError):
    """It may work the next time; `retry_after_s` is what the server asked for."""

    retry_after_s: float | None = None


class Unreachable(Transient):
    """A host that never answered yet: most likely there is no network, and nobody wants to wait for that."""


def _silent(seconds: float, reason: str) -> None:
    pass


@dataclass(frozen=True)
class RetryPolicy:
    """`delays_s`: the wait before each further try, the first `unreachable_tries` of them for a host that never answered;
    a server's Retry-After up to `longest_s` goes first.

    `on_wait` hears of every wait from `said_from_s` on: its seconds and the reason. `useful_bytes`: what a try must
    have gained for the count of tries to begin anew; less is no progress.
    """

    delays_s: tuple[float, ...] = (1, 2, 4, 8, 16)
    unreachable_tries: int = 2
    longest_s: float = 120
    sleep: Callable[[float], object] = time.sleep
    on_wait: Callable[[float, str], object] = _silent
    said_from_s: float = 3
    useful_bytes: int = 10_000

    def wait(self, error: Transient, tries: int) -> None:
        """Sleep before try number `tries` + 1. Raises HubError when it was tried often enough."""
        if tries >= (self.unreachable_tries if isinstance(error, Unreachable) else len(self.delays_s)):
            raise HubError(error.message, hint=error.hint) from error
        asked = error.retry_after_s
        delay_s = self.delays_s[tries] if asked is None else min(asked, self.longest_s)
        if delay_s >= self.said_from_s:
            self.on_wait(delay_s, error.message)
        self.sleep(delay_s)


def retrying(act: Callable[[], T], policy: RetryPolicy) -> T:
    """`act()`, again after each Transient. Raises HubError in the end."""
    tries = 0
    while True:
        try:
            return act()
        except Transient as error:
            policy.wait(error, tries)
            tries += 1
