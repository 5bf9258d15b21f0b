"""Get a model from the Hub: look, choose, fetch, check, and record it last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from lmsupply_cli.catalogue.entry import CatalogueEntry, Licence, entry_of_repo, find_entry
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.errors import HubError, ModelFilesError, ModelNotFound, ModelNotInstalled
from lmsupply_cli.hub.client import fetch_files, fetch_tree
from lmsupply_cli.hub.licences import tier_of
from lmsupply_cli.hub.tree import RepoTree
from lmsupply_cli.hub.variant import Resolution, choose_variant, find_variants
from lmsupply_cli.store.locate import RepoRef, parse_repo
from lmsupply_cli.store.manifest import Manifest, write_manifest


@dataclass(frozen=True)
class PullPlan:
    """What a pull would do; nothing is fetched yet but the listing of the repo."""

    ref: str
    tree: RepoTree
    resolution: Resolution
    licence: Licence

    @property
    def fetch_bytes(self) -> int:
        return self.resolution.chosen.size_bytes


def plan_pull(name: str, *, provider: str, precision: str, offline: bool) -> PullPlan:
    """Raises ModelNotFound, ModelNotInstalled (offline), HubError, UsageError."""
    entry, wanted = _named(name)
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelNotInstalled(f"{name} is not installed and lmsupply is offline", hint="go online and pull it")
    tree = fetch_tree(wanted.repo, wanted.revision)
    resolution = choose_variant(
        find_variants(tree),
        provider="cpu" if provider == "auto" else provider,
        precision=precision,
        wanted=wanted.variant,
    )
    licence = entry.licence if entry else Licence(tree.licence or "unknown", tier_of(tree.licence))
    ref = (
        entry.ref
        if entry and not wanted.variant
        else wanted.repo + (f":{resolution.chosen.folder}" if wanted.variant else "")
    )
    return PullPlan(ref, tree, resolution, licence)


def run_pull(plan: PullPlan, root: Path, *, progress: bool) -> Manifest:
    """Fetch and record. Raises HubError, ModelFilesError."""
    chosen, tree = plan.resolution.chosen, plan.tree
    snapshot = fetch_files(tree.repo, tree.commit, chosen.files, root, progress=progress)
    for path in chosen.files:
        have = (snapshot / path).stat().st_size if (snapshot / path).is_file() else -1
        if have != tree.files[path]:
            raise HubError(f"{path} arrived with {max(have, 0)} of {tree.files[path]} bytes", hint="pull again")
    folder = snapshot / chosen.folder
    try:
        open_folder(folder, trust=True)
    except ModelFilesError as error:
        raise ModelFilesError(
            f"{tree.repo} is not usable: {error.message}", hint="try another variant or repo"
        ) from error
    manifest = Manifest(
        ref=plan.ref,
        repo=tree.repo,
        commit=tree.commit,
        variant=chosen.folder,
        folder=str(folder.relative_to(root)),
        licence=plan.licence.id,
        tier=plan.licence.tier,
        files={path: tree.files[path] for path in chosen.files},
        pulled=date.today().isoformat(),
    )
    write_manifest(root, manifest)
    return manifest


def _named(name: str) -> tuple[CatalogueEntry | None, RepoRef]:
    entry, repo = find_entry(name), parse_repo(name)
    if entry and entry.repo:
        return entry, RepoRef(entry.repo)
    if entry:
        raise ModelNotFound(f"{name} is built in", hint=f"it is here already: lmsupply chat {name}")
    if repo:
        return entry_of_repo(repo.repo), repo
    from lmsupply_cli.catalogue.entry import closest

    near = closest(name, [])
    raise ModelNotFound(
        f"no model is called {name!r}", hint=f"did you mean {near}?" if near else "lmsupply models lists them"
    )
