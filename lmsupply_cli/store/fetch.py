"""Bring files of a repo here: several at once, resumed, with a record of them that stays until they are installed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue

from lmsupply_cli.errors import HubError
from lmsupply_cli.events import FileProgress, Notice, ProgressListener
from lmsupply_cli.files import free_bytes
from lmsupply_cli.hub.client import HubClient
from lmsupply_cli.hub.retry import RetryPolicy
from lmsupply_cli.hub.tree import RepoFile
from lmsupply_cli.store.manifest import FileRecord, Manifest, read_manifests, read_unfinished, write_unfinished
from lmsupply_cli.store.plan import FetchPlan, planned_files
from lmsupply_cli.store.transfer import Stopped, Transfer
from lmsupply_cli.units import format_bytes

WORKERS = 4  # files at once


def fetch_files(
    plan: FetchPlan,
    files: Sequence[RepoFile],
    record: Manifest,
    root: Path,
    listener: ProgressListener,
    client: Callable[[], HubClient],
) -> None:
    """Bring `files` here, under the lock of the repo; `record` stays as that of an unfinished pull. Raises HubError,
    FileError."""
    planned = planned_files(root, plan.tree, files, read_manifests(root), distrusted=plan.distrusted)
    fresh = replace(plan, files=planned, free_disk_bytes=free_bytes(root))
    if not fresh.fits_disk:
        more = f" and {format_bytes(plan.reserved_bytes)} to write" if plan.reserved_bytes else ""
        raise HubError(
            f"{format_bytes(fresh.fetch_bytes)} to download{more}, but only {format_bytes(fresh.free_disk_bytes)} is free "
            f"on the disk of {root}",
            hint="free some space (lmsupply rm), or choose another disk with `cache_dir`",
        )
    write_unfinished(root, record)
    if not all(file.in_place for file in planned):
        hub = client()
        hub.tell(listener)
        _Transfers(fresh, root, listener, hub).run()


class _Progress:
    """Counts bytes of all workers and tells the listener, one call at a time."""

    def __init__(self, plan: FetchPlan, listener: ProgressListener) -> None:
        self._lock, self._listener = threading.Lock(), listener
        self._done = {planned.file.target: planned.have_bytes for planned in plan.files}
        self._total = plan.total_bytes
        self._waits: set[str] = set()
        self._digests = Counter(planned.file.digest for planned in plan.files)

    def add(self, file: RepoFile, count: int) -> None:
        with self._lock:
            self._done[file.target] = min(file.size_bytes, max(0, self._done[file.target] + count))
            here, done = self._done[file.target], sum(self._done.values())
            self._listener.file(FileProgress(file.target, here, file.size_bytes, done, self._total))

    def waits(self, file: RepoFile) -> None:
        """Another pull is at this content; said once. (Of equal files of one pull the first is waited for.)"""
        with self._lock:
            if file.digest not in self._waits and self._digests[file.digest] == 1:
                self._waits.add(file.digest)
                self._listener.notice(
                    Notice("waiting", f"{file.path} is being fetched by another pull; waiting for it")
                )


class _Transfers:
    """The files of a plan that are not in place: several at once, the largest first. The first failure stops the
    others."""

    def __init__(self, plan: FetchPlan, root: Path, listener: ProgressListener, hub: HubClient) -> None:
        self._tree, self._root, self._hub = plan.tree, root, hub
        self._progress = _Progress(plan, listener)
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._todo: Queue[RepoFile] = Queue()
        for planned in sorted(plan.files, key=lambda p: -p.fetch_bytes):
            if not planned.in_place:
                self._todo.put(planned.file)

    def run(self) -> None:
        """Raises the first error of a transfer."""
        count = min(WORKERS, self._todo.qsize())
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        try:
            for worker in workers:
                worker.start()
            while any(worker.is_alive() for worker in workers) and not self._failures:
                for worker in workers:
                    worker.join(0.05)  # in short waits, so that Ctrl-C is heard
        finally:
            self._stop.set()
            for worker in workers:
                worker.join(0.3)  # one that waits for a silent server is left behind, and gives its lock back then
            if not any(worker.is_alive() for worker in workers):
                self._hub.close()
        if self._failures:
            raise _resumable(self._failures[0])

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                file = self._todo.get_nowait()
            except Empty:
                return
            try:
                self._transfer(file)
            except Stopped:
                return
            except BaseException as error:
                self._failures.append(error)
                self._stop.set()

    def _transfer(self, file: RepoFile) -> None:
        tree = self._tree
        Transfer(
            root=self._root,
            repo=tree.repo,
            commit=tree.commit,
            file=file,
            open_at=lambda start: self._hub.open_file(tree.repo, tree.commit, file.path, start),
            copies=lambda: copies_of(self._root, file),
            policy=_interruptible(self._hub.policy, self._stop),
            stop=self._stop,
            on_bytes=lambda count: self._progress.add(file, count),
            on_wait=lambda: self._progress.waits(file),
        ).run()


def _resumable(failure: BaseException) -> BaseException:
    """A network failure, with the hint that the downloaded part is kept."""
    if not isinstance(failure, HubError) or not failure.hint.endswith("try again"):
        return failure
    resumed = HubError(failure.message, hint=f"{failure.hint}; the download will resume")
    resumed.__cause__ = failure
    return resumed


def copies_of(root: Path, file: RepoFile) -> list[Path]:
    """Where the store has this content, or may have it: in what is installed, and in pulls that are not finished."""
    records = [m for m in [*read_manifests(root), *read_unfinished(root)] if not m.added]
    wanted = FileRecord(file.size_bytes, file.digest)
    return list(dict.fromkeys(root / path for m in records for path, r in m.contents() if r == wanted))


def _interruptible(policy: RetryPolicy, stop: threading.Event) -> RetryPolicy:
    """A pull that was given up waits for nothing more."""
    return replace(policy, sleep=stop.wait) if policy.sleep is time.sleep else policy
