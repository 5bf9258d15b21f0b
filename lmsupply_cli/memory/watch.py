"""Watch the memory of the process while it generates: a word at 80 % of the limit, an end at 95 %."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

WARNING, CRITICAL = 0.80, 0.95


@dataclass
class MemoryWatch:
    """`used` gives the bytes that the process holds; looked at every `every` tokens."""

    limit_bytes: int
    used: Callable[[], int]
    every: int = 8
    warning: float = WARNING
    critical: float = CRITICAL
    warned: bool = False
    _count: int = 0

    def look(self) -> Literal["", "warning", "critical"]:
        """`warning` once, `critical` as long as it lasts."""
        self._count += 1
        if self._count % self.every:
            return ""
        share = self.used() / self.limit_bytes
        if share >= self.critical:
            return "critical"
        if share >= self.warning and not self.warned:
            self.warned = True
            return "warning"
        return ""
