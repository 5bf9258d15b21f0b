"""A pull: look, choose, plan; then lock, fetch, check, and record it last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lmsupply_cli.addresses import without_user
from lmsupply_cli.catalogue.entry import CatalogueEntry, License
from lmsupply_cli.catalogue.lookup import closest, entry_of_repo
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.errors import FileError, ModelFilesError, ModelNotFound, ModelNotInstalled, UsageError
from lmsupply_cli.events import Notice, ProgressListener
from lmsupply_cli.files import read_text, size_of, write_whole
from lmsupply_cli.hub.client import HubClient, kept_offline_by
from lmsupply_cli.hub.licenses import license_of
from lmsupply_cli.hub.resolve import Resolution, VariantWish, resolve
from lmsupply_cli.hub.sources import Room, SourceVariant, choose_source, wants_source
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.hub.variant import find_variants
from lmsupply_cli.locks import once
from lmsupply_cli.store.external_data import further_files
from lmsupply_cli.store.fetch import fetch_files
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
    write_manifest,
)
from lmsupply_cli.store.plan import FetchPlan, PullPlan, SourcePlan, make_plan, make_source_plan

Inspect = Callable[[SourceVariant, Callable[[str, int], bytes]], tuple[Obstacle, ...]]
_ANY = VariantWish()


class SourceRules(NamedTuple):
    """How a source is chosen for a repo without a variant. `room`: whose import fits the memory, None for any; `inspect`: what
    is in the way of importing it, by its first bytes."""

    room: Room | None = None
    inspect: Inspect | None = None


_ANY_SOURCE = SourceRules()


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
    with _looked_up(name, root, wish, offline=offline, listener=listener, client=client) as found:
        return _variant_plan(found, root)


def plan_any(
    name: str,
    root: Path,
    wish: VariantWish = _ANY,
    rules: SourceRules = _ANY_SOURCE,
    *,
    offline: bool = False,
    listener: ProgressListener | None = None,
    client: Callable[[], HubClient] = HubClient,
) -> PullPlan | SourcePlan:
    """As `plan_pull`; of a repo without a variant, or where the wish names one, the GGUF or safetensors to import.

    Raises ModelFilesError for a source that `rules.inspect` cannot read.
    """
    with _looked_up(name, root, wish, offline=offline, listener=listener, client=client) as found:
        if not wants_source(found.tree, found.wish):
            return _variant_plan(found, root)
        return _source_plan(found, root, rules)


class _Found(NamedTuple):
    """A repo that was looked up, with the Hub still open."""

    hub: HubClient
    tree: RepoTree
    entry: CatalogueEntry | None
    wanted: RepoRef
    wish: VariantWish

    def license(self, folder: str = "") -> License:
        return license_of(self.tree, self.entry or entry_of_repo(self.tree.repo, folder))

    def ref(self, variant: str) -> str:
        tree, entry, wanted = self.tree, self.entry, self.wanted
        name = tree.repo if entry or wanted.revision in (None, "main") else f"{tree.repo}@{wanted.revision}"
        return f"{name}:{variant}" if self.wish.variant else entry.ref if entry else name


@contextmanager
def _looked_up(
    name: str,
    root: Path,
    wish: VariantWish,
    *,
    offline: bool,
    listener: ProgressListener | None,
    client: Callable[[], HubClient],
) -> Iterator[_Found]:
    """The repo that `name` stands for. Raises as `plan_pull`."""
    name = without_user(name)
    if mine := next((m for m in read_manifests(root) if not m.repo and m.ref.lower() == name.lower()), None):
        what = "a model that you imported" if mine.source else f"a folder that you added: {mine.folder}"
        raise UsageError(f"{name} is {what}", hint=f"there is nothing to pull: lmsupply chat {name}")
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
        yield _Found(hub, fetch_pinned(hub, entry, wanted), entry, wanted, wish)


def _variant_plan(found: _Found, root: Path) -> PullPlan:
    hub, tree = found.hub, found.tree
    resolution, obstacles = resolve_here(tree, found.wish, found.entry, lambda path: _small_text(hub, tree, path, root))
    folder = resolution.chosen.folder
    plan = make_plan(root, found.ref(folder), tree, resolution, found.license(folder))
    return replace(plan, obstacles=obstacles)


def _source_plan(found: _Found, root: Path, rules: SourceRules) -> SourcePlan:
    hub, tree = found.hub, found.tree
    choice = choose_source(tree, found.wish, rules.room)
    plan = make_source_plan(root, found.ref(choice.chosen.name), tree, choice, found.license())
    if not rules.inspect:
        return plan
    read = lambda path, limit_bytes: hub.fetch_prefix(tree, path, limit_bytes)  # noqa: E731
    return replace(plan, obstacles=rules.inspect(choice.chosen, read))


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


def refuse_what_never_runs(plan: FetchPlan) -> None:
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
        fetch_files(plan, files, _record(plan, files), root, listener, client)
        while more := _further(plan, files, root):
            files += more
            fetch_files(plan, files, _record(plan, files), root, listener, client)
        return _install(plan, files, root)


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
