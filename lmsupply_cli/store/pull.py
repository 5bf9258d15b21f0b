"""A pull: look, choose, plan; then lock, fetch, check, and record it last."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue

from lmsupply_cli.addresses import without_user
from lmsupply_cli.catalogue.entry import CatalogueEntry
from lmsupply_cli.catalogue.lookup import closest, entry_of_repo
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.errors import FileError, HubError, ModelFilesError, ModelNotFound, ModelNotInstalled, UsageError
from lmsupply_cli.events import FileProgress, Notice, ProgressListener
from lmsupply_cli.files import free_bytes, read_text, size_of, write_whole
from lmsupply_cli.hub.client import HubClient, kept_offline_by
from lmsupply_cli.hub.licenses import license_of
from lmsupply_cli.hub.resolve import Resolution, VariantWish, resolve
from lmsupply_cli.hub.retry import RetryPolicy
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.hub.variant import find_variants
from lmsupply_cli.locks import once
from lmsupply_cli.store.external_data import further_files
from lmsupply_cli.store.judging import judge_variant
from lmsupply_cli.store.layout import file_path, inside, model_dir, ref_path, snapshot_dir
from lmsupply_cli.store.locate import RepoRef, named_repo
from lmsupply_cli.store.lock import repo_lock
from lmsupply_cli.store.manifest import (
    FileRecord,
    Manifest,
    forget_unfinished,
    now,
    read_manifests,
    read_unfinished,
    write_manifest,
    write_unfinished,
)
from lmsupply_cli.store.plan import PullPlan, make_plan, planned_files
from lmsupply_cli.store.transfer import Stopped, Transfer
from lmsupply_cli.units import format_bytes

WORKERS = 4  # files at once
_ANY = VariantWish()


def plan_pull(
    name: str,
    root: Path,
    wish: VariantWish = _ANY,
    *,
    offline: bool = False,
    listener: ProgressListener | None = None,
    client: Callable[[], HubClient] = HubClient,
) -> PullPlan:
    """Look at the repo and decide; nothing but its listing and configs is fetched. `listener` is told about retries.

    Raises ModelNotFound, ModelNotInstalled (offline), LicenseNotAccepted (gated), HubError, UsageError.
    """
    name = without_user(name)
    if added := next((m for m in read_manifests(root) if m.added and m.ref == name.lower()), None):
        raise UsageError(
            f"{name} is a folder that you added: {added.folder}", hint=f"there is nothing to pull: lmsupply chat {name}"
        )
    entry, wanted = named_repo(name)
    if wish.variant and wanted.variant:
        raise UsageError(
            f"two variants are named: {wanted.variant} and {wish.variant}", hint="leave out `variant`, or :FOLDER"
        )
    if cause := kept_offline_by(offline):
        raise ModelNotInstalled(
            f"{name} is not installed and lmsupply is offline", hint=f"leave out {cause} to pull it"
        )
    wish = replace(wish, variant=wish.variant or wanted.variant)
    with client() as hub:
        hub.tell(listener or ProgressListener())
        tree = fetch_pinned(hub, entry, wanted)
        resolution, obstacles = resolve_here(tree, wish, entry, lambda path: _small_text(hub, tree, path, root))
    folder = resolution.chosen.folder
    license = license_of(tree, entry or entry_of_repo(tree.repo, folder))
    name = tree.repo if entry or wanted.revision in (None, "main") else f"{tree.repo}@{wanted.revision}"
    ref = f"{name}:{folder}" if wish.variant else entry.ref if entry else name
    return replace(make_plan(root, ref, tree, resolution, license), obstacles=obstacles)


def resolve_here(
    tree: RepoTree, wish: VariantWish, entry: CatalogueEntry | None, read_text: Callable[[str], str] | None = None
) -> tuple[Resolution, tuple[Obstacle, ...]]:
    """The variant to take, of those that run at all where there is one, and what is in the way of running it.
    `read_text` as in `judge_variant`. Raises ModelNotFound, UsageError."""
    try:
        variants = find_variants(tree)
    except ModelNotFound as error:
        raise with_sibling(error, tree.repo) from error
    blocked = {v.folder: [o for o in judge_variant(tree, v, wish) if not o.lifted_by] for v in variants}
    unusable = {folder: found[0].text for folder, found in blocked.items() if found}
    resolution = resolve(variants, wish, folder=entry.folder if entry else "", unusable=unusable)
    return resolution, judge_variant(tree, resolution.chosen, wish, read_text)


def refuse_what_never_runs(plan: PullPlan) -> None:
    """Before anything is fetched. Raises ModelFilesError, UntrustedModelFiles."""
    for obstacle in plan.obstacles:
        if not obstacle.lifted_by:
            raise type(obstacle.error())(f"{plan.ref} does not run here: {obstacle.text}", hint=obstacle.hint)


def _small_text(hub: HubClient, tree: RepoTree, path: str, root: Path) -> str:
    """From the store where it is here already."""
    here = file_path(snapshot_dir(root, tree.repo, tree.commit), path)
    if size_of(here) == tree.files[path].size_bytes:
        return read_text(here)
    return hub.fetch_text(tree, path)


def run_pull(
    plan: PullPlan, root: Path, *, listener: ProgressListener | None = None, client: Callable[[], HubClient] = HubClient
) -> Manifest:
    """Carry out a plan. A KeyboardInterrupt leaves within a second; parts are kept.

    Raises HubError, FileError, ModelFilesError.
    """
    refuse_what_never_runs(plan)
    listener = listener or ProgressListener()
    for obstacle in plan.obstacles:
        listener.notice(Notice("may_not_run", f"{plan.ref}: {obstacle.note}"))

    def waiting() -> None:
        listener.notice(Notice("waiting", f"another lmsupply is working on {plan.tree.repo}; waiting for it"))

    with repo_lock(root, plan.tree.repo, waiting=once(waiting)):
        files = list(plan.resolution.chosen.files)
        _fetch(plan, files, root, listener, client)
        while more := _further(plan, files, root):
            files += more
            _fetch(plan, files, root, listener, client)
        return _install(plan, files, root)


def _fetch(
    plan: PullPlan, files: Sequence[RepoFile], root: Path, listener: ProgressListener, client: Callable[[], HubClient]
) -> None:
    """Bring `files` here, with a record of them that stays until they are installed."""
    planned = planned_files(root, plan.tree, files, read_manifests(root), distrusted=plan.distrusted)
    fresh = replace(plan, files=planned, free_disk_bytes=free_bytes(root))
    if not fresh.fits_disk:
        raise HubError(
            f"{format_bytes(fresh.fetch_bytes)} to download, but only {format_bytes(fresh.free_disk_bytes)} is free on the disk of {root}",
            hint="free some space (lmsupply rm), or choose another disk with `cache_dir`",
        )
    write_unfinished(root, _record(plan, files))
    if not all(file.in_place for file in planned):
        hub = client()
        hub.tell(listener)
        _Transfers(fresh, root, listener, hub).run()


def _further(plan: PullPlan, files: Sequence[RepoFile], root: Path) -> list[RepoFile]:
    """Files that the graphs name, now that they are here, and that were not planned."""
    snapshot, known = snapshot_dir(root, plan.tree.repo, plan.tree.commit), {file.target for file in files}
    return [file for file in further_files(plan.tree, plan.resolution.chosen, snapshot) if file.target not in known]


def fetch_pinned(hub: HubClient, entry: CatalogueEntry | None, wanted: RepoRef) -> RepoTree:
    """The tree at the wanted revision; a revision that only the catalogue pinned may be gone, then main."""
    try:
        return hub.fetch_tree(wanted.repo, wanted.revision)
    except ModelNotFound as error:
        if entry and entry.revision and "revision" in error.code + error.message:
            return hub.fetch_tree(wanted.repo)
        raise


def with_sibling(error: ModelNotFound, repo: str) -> ModelNotFound:
    """Name the known GenAI repo of the same model, where there is one."""
    near = closest(repo.rpartition("/")[2].lower().replace("-onnx", "").replace("-instruct", ""))
    return ModelNotFound(error.message, hint=f"lmsupply pull {near}" if near else error.hint)


class _Progress:
    """Counts bytes of all workers and tells the listener, one call at a time."""

    def __init__(self, plan: PullPlan, listener: ProgressListener) -> None:
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

    def __init__(self, plan: PullPlan, root: Path, listener: ProgressListener, hub: HubClient) -> None:
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
    return list(dict.fromkeys(root / m.snapshot / path for m in records for path, r in m.files.items() if r == wanted))


def _interruptible(policy: RetryPolicy, stop: threading.Event) -> RetryPolicy:
    """A pull that was given up waits for nothing more."""
    return replace(policy, sleep=stop.wait) if policy.sleep is time.sleep else policy


def _install(plan: PullPlan, files: Sequence[RepoFile], root: Path) -> Manifest:
    """Check the structure of what is here, then write the manifest."""
    tree = plan.tree
    snapshot = snapshot_dir(root, tree.repo, tree.commit)
    folder = model_dir(root, tree.repo, tree.commit, plan.resolution.chosen.folder)
    for file in files:
        if size_of(file_path(snapshot, file.target)) != file.size_bytes:
            raise FileError(f"{file.target} disappeared while {tree.repo} was being pulled", hint="run it again")
    try:
        open_folder(folder, trust=True)
    except ModelFilesError as error:
        raise ModelFilesError(
            f"{tree.repo} is not usable: {error.message}",
            hint="the repo itself is incomplete; try another variant or repo",
        ) from error
    manifest = _record(plan, files)
    reference = ref_path(root, tree.repo, tree.revision)
    if reference and not plan.repairs:
        write_whole(inside(root, reference), tree.commit)
    write_manifest(root, manifest)
    forget_unfinished(root, manifest.key)
    return manifest


def _record(plan: PullPlan, files: Sequence[RepoFile]) -> Manifest:
    tree, variant, before = plan.tree, plan.resolution.chosen.folder, plan.repairs
    here = Path()
    return Manifest(
        ref=plan.ref,
        repo=tree.repo,
        revision=before.revision if before else tree.revision,
        commit=tree.commit,
        variant=variant,
        snapshot=snapshot_dir(here, tree.repo, tree.commit).as_posix(),
        folder=model_dir(here, tree.repo, tree.commit, variant).as_posix(),
        license=plan.license.id,
        tier=plan.license.tier,
        files={file.target: FileRecord(file.size_bytes, file.digest) for file in files},
        pulled=before.pulled if before else now(),
    )
