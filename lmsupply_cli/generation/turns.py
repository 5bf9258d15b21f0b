"""One answer at a time on one model, whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lmsupply_cli.errors import EngineError, LmsupplyError
from lmsupply_cli.events import GenerationEvent


class Turns:
    """One answer at a time. In the same thread a new answer abandons the one before it, whose iterator then raises;
    from another thread it is refused, so that nobody gets half an answer."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._active: Iterator[GenerationEvent] | None = None
        self._thread = 0
        self._closed = False

    def close(self) -> None:
        """No answer continues."""
        self._closed = True
        self.abandon()

    def check_open(self) -> None:
        """Raises EngineError after `close`."""
        if self._closed:
            raise EngineError("the model is closed", hint="load it again")

    def guarded(self, events: Iterator[GenerationEvent]) -> Iterator[GenerationEvent]:
        """`events`, each made under the lock; the turn begins with the first."""
        try:
            self._begin(events)
            while True:
                with self._lock:
                    self.check_open()
                    if self._active is not events:
                        raise LmsupplyError(
                            "this answer was abandoned because another one was started on the same model"
                        )
                    event = next(events, None)
                if event is None:
                    return
                yield event
        finally:
            with self._lock:
                if self._active is events:
                    self.abandon()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work that is no answer, but uses the cache."""
        self._begin(iter(()))
        with self._lock:
            self._active = None
            yield

    def abandon(self) -> None:
        """End the iterator in use."""
        with self._lock:
            active, self._active = self._active, None
            if active is not None:
                getattr(active, "close", lambda: None)()

    def _begin(self, events: Iterator[GenerationEvent]) -> None:
        if not self._lock.acquire(blocking=False):
            raise _busy()
        try:
            if self._active is not None and self._thread != threading.get_ident():
                raise _busy()
            self.abandon()
            self._active, self._thread = events, threading.get_ident()
        finally:
            self._lock.release()


def _busy() -> EngineError:
    return EngineError(
        "this model is generating an answer in another thread", hint="use a GeneratorPool for several threads"
    )
