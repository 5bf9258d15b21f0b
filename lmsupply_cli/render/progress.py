"""A pull while it runs: bars in a terminal, JSON lines for programs, nothing in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lmsupply_cli.events import FileProgress, Notice, ProgressListener
from lmsupply_cli.render.sanitize import one_line
from lmsupply_cli.render.terminal import Terminal

_JSON_INTERVAL_S = 0.5
_STEPS = {"download": "all files", "read": "reading", "convert": "converting"}


class NoticeProgress(ProgressListener):
    """Notices only: in a pipe the lines before and after a pull say the rest."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def notice(self, notice: Notice) -> None:
        self._terminal.notice(notice)


class JsonProgress(ProgressListener):
    """`progress` events, a few a second and one at the end of each file."""

    def __init__(self, terminal: Terminal, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal, self._clock = terminal, clock
        self._last = float("-inf")

    def file(self, progress: FileProgress) -> None:
        now = self._clock()
        if now - self._last >= _JSON_INTERVAL_S or progress.done_bytes == progress.size_bytes:
            self._last = now
            self._terminal.json_event(
                "progress",
                step=progress.step,
                path=progress.path,
                done_bytes=progress.done_bytes,
                size_bytes=progress.size_bytes,
                all_done_bytes=progress.all_done_bytes,
                all_bytes=progress.all_bytes,
            )

    def notice(self, notice: Notice) -> None:
        self._terminal.json_notice(notice)


class BarProgress(NoticeProgress):
    """A bar for each file in work and one for all, with rate and time left."""

    def __init__(self, terminal: Terminal, bars: Any) -> None:
        super().__init__(terminal)
        self._bars = bars
        self._tasks: dict[str, Any] = {}
        self._all: Any = None
        self._step = ("", 0)

    def file(self, progress: FileProgress) -> None:
        if self._step != (step := (progress.step, progress.all_bytes)):
            self._step = step
            self._begin(progress)
        if progress.path not in self._tasks:
            name = one_line(progress.path.rsplit("/", 1)[-1])
            self._tasks[progress.path] = self._bars.add_task(name, total=progress.size_bytes)
        task = self._tasks[progress.path]
        self._bars.update(task, completed=progress.done_bytes, visible=progress.done_bytes < progress.size_bytes)
        self._bars.update(self._all, completed=progress.all_done_bytes)

    def _begin(self, progress: FileProgress) -> None:
        """The bars of a step; those of the one before go."""
        for task in (*self._tasks.values(), *([] if self._all is None else [self._all])):
            self._bars.remove_task(task)
        self._tasks.clear()
        label = _STEPS[progress.step]
        self._all = self._bars.add_task(label, total=progress.all_bytes, completed=progress.all_done_bytes)


@contextmanager
def pull_progress(terminal: Terminal) -> Iterator[NoticeProgress]:
    if not terminal.stderr_tty or terminal.dumb or terminal.quiet:
        yield NoticeProgress(terminal)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.table import Column

    console = Console(file=terminal.stderr, no_color=not terminal.color)
    name = TextColumn(
        "{task.description}", markup=False, table_column=Column(max_width=24, no_wrap=True, overflow="ellipsis")
    )
    columns = [
        name,
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    ]
    if console.width < 70:
        columns = [name, BarColumn(bar_width=None), TransferSpeedColumn(), TimeRemainingColumn(compact=True)]
    with Progress(*columns, console=console, expand=True, transient=True, refresh_per_second=8) as bars:
        yield BarProgress(terminal, bars)
