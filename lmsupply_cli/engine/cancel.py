"""Ending a generation from outside: by another thread, or by Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CancelToken:
    """Checked before every prefill chunk and every token."""

    def __init__(self, parent: CancelToken | None = None) -> None:
        """`parent`: cancelling it cancels this token too, but not the reverse."""
        self._set = False
        self._parent = parent

    def cancel(self) -> None:
        """Stop what runs with this token, at its next step."""
        self._set = True

    @property
    def cancelled(self) -> bool:
        """Whether it, or its parent, was cancelled."""
        return self._set or (self._parent is not None and self._parent.cancelled)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """For imports of compiled modules, which turn Ctrl-C into another error or swallow it. A Ctrl-C meanwhile is handled at the end. Nothing on other threads than the main one, which gets it anyway."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if seen:
            before(seen[0], None)


@contextmanager
def interrupts_cancel(token: CancelToken) -> Iterator[None]:
    """The first Ctrl-C cancels `token`; the next one interrupts as usual. Only on the main thread."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def cancel(number: int, _: object) -> None:
        signal.signal(signal.SIGINT, before)
        token.cancel()

    signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
