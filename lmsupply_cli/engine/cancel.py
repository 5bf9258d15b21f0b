"""A flag that another thread or a signal handler may raise to end a generation."""

from __future__ import annotations


class CancelToken:
    """Checked before every prefill chunk and every token."""

    def __init__(self, parent: CancelToken | None = None) -> None:
        """`parent`: this one is cancelled when that one is, and not the other way round."""
        self._set = False
        self._parent = parent

    def cancel(self) -> None:
        """End what runs with this token, at its next step."""
        self._set = True

    @property
    def cancelled(self) -> bool:
        """Whether it, or its parent, was cancelled."""
        return self._set or (self._parent is not None and self._parent.cancelled)
