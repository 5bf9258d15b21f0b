"""A pull: look, choose, plan; then lock, fetch, check, and record it last."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue

from lmsupply_cli.catalogue.entry import CatalogueEntry, Licence
from lmsupply_cli.catalogue.lookup import closest, entry_of_repo, forgiving_entry
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.errors import HubError, LmsupplyError, ModelFilesError, ModelNotFound, ModelNotInstalled
from lmsupply_cli.events import FileProgress, Notice, ProgressListener
from lmsupply_cli.hub.client import HubClient, is_offline
from lmsupply_cli.hub.licences import tier_of
from lmsupply_cli.hub.resolve import resolve
from lmsupply_cli.hub.tree import RepoTree
from lmsupply_cli.hub.variant import find_variants
from lmsupply_cli.store.external_data import missing_data
from lmsupply_cli.store.locate import RepoRef, parse_repo
from lmsupply_cli.store.lock import pull_lock
from lmsupply_cli.store.manifest import FileRecord, Manifest, now, read_manifests, write_manifest
from lmsupply_cli.store.plan import PlannedFile, PullPlan, part_path, planned_files, repo_dir, snapshot_dir
from lmsupply_cli.store.transfer import Stopped, transfer

WORKERS = 4  # files at once


def plan_pull(
    name: str,
    root: Path,
    *,
    provider: str = "auto",
    precision: str = "auto",
    variant: str | None = None,
    offline: bool = False,
    client: Callable[[], HubClient] = HubClient,
) -> PullPlan:
    """Look at the repo and decide; nothing but its listing and configs is fetched.

    Raises ModelNotFound, ModelNotInstalled (offline), LicenceNotAccepted (gated), HubError, UsageError.
    """
    entry, wanted = named_repo(name)
    if offline or is_offline():
        raise ModelNotInstalled(f"{name} is not installed and lmsupply is offline", hint="go online and pull it")
    with client() as hub:
        tree = fetch_pinned(hub, entry, wanted)
    try:
        variants = find_variants(tree)
    except ModelNotFound as error:
        raise with_sibling(error, wanted.repo) from error
    wish = variant or wanted.variant
    folder = entry.folder if entry else ""
    resolution = resolve(
        variants, provider="cpu" if provider == "auto" else provider, precision=precision, wanted=wish, folder=folder
    )
    owner = entry or entry_of_repo(tree.repo, resolution.chosen.folder)
    licence = owner.licence if owner else Licence(tree.licence or "unknown", tier_of(tree.licence), tree.licence_url)
    files = planned_files(root, tree, resolution, read_manifests(root))
    ref = entry.ref if entry and not wish else f"{tree.repo}:{resolution.chosen.folder}" if wish else tree.repo
    return PullPlan(ref, tree, resolution, licence, files, free_bytes(root))


def run_pull(
    plan: PullPlan, root: Path, *, listener: ProgressListener | None = None, client: Callable[[], HubClient] = HubClient
) -> Manifest:
    """Carry out a plan. A KeyboardInterrupt leaves within a second; parts are kept.

    Raises HubError, ModelFilesError.
    """
    listener = listener or ProgressListener()

    def waiting() -> None:
        listener.notice(Notice("waiting", f"another lmsupply is pulling {plan.tree.repo}; waiting for it"))

    with pull_lock(root, plan.tree.repo, waiting=waiting):
        files = planned_files(
            root, plan.tree, plan.resolution, read_manifests(root)
        )  # another pull may have fetched them
        need = sum(planned.fetch_bytes for planned in files)
        fresh = PullPlan(plan.ref, plan.tree, plan.resolution, plan.licence, files, free_bytes(root))
        if not fresh.fits_disk:
            raise HubError(
                f"{need:,} bytes to fetch, {fresh.free_disk_bytes:,} free on the disk of {root}",
                hint="free some space (lmsupply rm), or choose another disk with --cache-dir",
            )
        _fetch_all(fresh, root, listener, client)
        return _install(fresh, root)


def named_repo(name: str) -> tuple[CatalogueEntry | None, RepoRef]:
    """The entry and repo that `name` stands for. Raises ModelNotFound."""
    repo = parse_repo(name)
    if repo:
        return None, repo
    entry = forgiving_entry(name)
    if entry and entry.repo:
        return entry, RepoRef(entry.repo, entry.revision)
    if entry:
        raise ModelNotFound(f"{name} is built in", hint=f"it is here already: lmsupply chat {name}")
    near = closest(name)
    raise ModelNotFound(
        f"no model is called {name!r}", hint=f"did you mean {near}?" if near else "lmsupply models lists them"
    )


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


def free_bytes(root: Path) -> int:
    """Of the disk that holds `root`, which may not exist yet."""
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


class _Progress:
    """Counts bytes of all workers and tells the listener, one call at a time."""

    def __init__(self, plan: PullPlan, listener: ProgressListener) -> None:
        self._lock, self._listener = threading.Lock(), listener
        self._done = {planned.file.path: planned.have_bytes for planned in plan.files}
        self._sizes = {planned.file.path: planned.file.size_bytes for planned in plan.files}

    def add(self, path: str, count: int) -> None:
        with self._lock:
            self._done[path] = max(0, self._done[path] + count)
            done, total = sum(self._done.values()), sum(self._sizes.values())
            self._listener.file(FileProgress(path, self._done[path], self._sizes[path], done, total))


def _fetch_all(plan: PullPlan, root: Path, listener: ProgressListener, client: Callable[[], HubClient]) -> None:
    """Several files at once, the largest first. The first failure stops the others."""
    snapshot, tree = snapshot_dir(root, plan.tree.repo, plan.tree.commit), plan.tree
    todo: Queue[PlannedFile] = Queue()
    for planned in sorted(plan.files, key=lambda p: -p.fetch_bytes):
        if planned.fetch_bytes or not (snapshot / planned.file.path).is_file():
            todo.put(planned)
    if todo.empty():
        return
    stop, progress = threading.Event(), _Progress(plan, listener)
    failures: list[BaseException] = []

    def work(hub: HubClient) -> None:
        while not stop.is_set():
            try:
                file = todo.get_nowait().file
            except Empty:
                return
            try:
                transfer(
                    file,
                    part=part_path(root, file, tree.commit),
                    target=confined(snapshot, file.path),
                    open_at=lambda start, file=file: hub.open_file(tree.repo, tree.commit, file.path, start),  # type: ignore[misc]
                    policy=hub.policy,
                    stop=stop,
                    on_bytes=lambda count, path=file.path: progress.add(path, count),  # type: ignore[misc]
                )
            except Stopped:
                return
            except BaseException as error:
                failures.append(error)
                stop.set()

    hub = client()
    workers = [threading.Thread(target=work, args=(hub,), daemon=True) for _ in range(min(WORKERS, todo.qsize()))]
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            for worker in workers:
                worker.join(0.05)  # in short waits, so that Ctrl-C is heard
            if failures:
                break
    finally:
        stop.set()
        for worker in workers:
            worker.join(0.3)  # one that waits for a silent server is left behind: it holds nothing
        if not any(worker.is_alive() for worker in workers):
            hub.close()
    if failures:
        raise _as_error(failures[0])


def _as_error(failure: BaseException) -> BaseException:
    if isinstance(failure, OSError) and not isinstance(failure, LmsupplyError):
        return HubError(
            f"cannot write to the store: {failure.strerror or failure}", hint="choose another place with --cache-dir"
        )
    return failure


def confined(snapshot: Path, path: str) -> Path:
    """`path` below the snapshot, through no link. Raises HubError."""
    target = snapshot / path
    for folder in target.parents:
        if folder == snapshot:
            break
        if folder.is_symlink():
            raise HubError(f"{folder} is a link: nothing is written through it", hint="remove it and pull again")
    return target


def _install(plan: PullPlan, root: Path) -> Manifest:
    """Check the structure of what is here, then write the manifest."""
    chosen, tree = plan.resolution.chosen, plan.tree
    snapshot = snapshot_dir(root, tree.repo, tree.commit)
    folder = snapshot / chosen.folder
    try:
        opened = open_folder(folder, trust=True)
        missing = missing_data(folder, opened.graphs)
        if missing:
            raise ModelFilesError(f"{missing} of the weights is missing or too short")
    except ModelFilesError as error:
        raise ModelFilesError(
            f"{tree.repo} is not usable: {error.message}",
            hint="the repo itself is incomplete; try another variant or repo",
        ) from error
    if "/" not in tree.revision.replace("refs/", ""):
        reference = repo_dir(root, tree.repo) / "refs" / tree.revision
        if len(tree.revision) != 40:
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(tree.commit, encoding="utf-8")
    manifest = Manifest(
        ref=plan.ref,
        repo=tree.repo,
        revision=tree.revision,
        commit=tree.commit,
        variant=chosen.folder,
        snapshot=snapshot.relative_to(root).as_posix(),
        folder=folder.relative_to(root).as_posix(),
        licence=plan.licence.id,
        tier=plan.licence.tier,
        files={planned.file.path: FileRecord(planned.file.size_bytes, planned.file.digest) for planned in plan.files},
        pulled=now(),
    )
    write_manifest(root, manifest)
    return manifest
