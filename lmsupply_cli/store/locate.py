"""From what the user types to a folder on this machine.

A ref is an alias (any case), `role:…`, `owner/repo[@revision][:variant]`, or a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import (
    GUIDE,
    GUIDE_REF,
    UNKNOWN_LICENCE,
    CatalogueEntry,
    Licence,
    closest,
    entry_of_repo,
    find_entry,
)
from lmsupply_cli.errors import ModelNotFound, ModelNotInstalled
from lmsupply_cli.store.manifest import Manifest, read_manifests

_REPO = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+?))?(:(?P<variant>[^:\s]+))?"
)
_PRECISION = re.compile(r"(?<![a-z0-9])(int4|int8|fp16|fp32|bf16)(?![a-z0-9])")


@dataclass(frozen=True, slots=True)
class RepoRef:
    repo: str
    revision: str | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """A model on this machine. `repo`, `commit` and `variant` are "" for a plain folder."""

    ref: str
    path: Path
    licence: Licence
    repo: str = ""
    commit: str = ""
    variant: str = ""
    entry: CatalogueEntry | None = None

    @property
    def precision(self) -> str | None:
        if self.ref == GUIDE_REF:
            return "int4"
        match = _PRECISION.search((self.variant or self.path.resolve().name).lower())
        return match.group(1) if match else None


def parse_repo(name: str) -> RepoRef | None:
    match = _REPO.fullmatch(name)
    return RepoRef(match["repo"], match["revision"], match["variant"]) if match else None


def is_path(name: str) -> bool:
    """Does `name` look like a path, and lead to a folder?"""
    looks = "/" in name or "\\" in name or name.startswith((".", "~"))
    try:
        return looks and Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):
        return False


def is_ref(name: str, root: Path) -> bool:
    """May `name` stand for a model: an alias of the catalogue or store, an owner/repo, a path?"""
    return bool(
        is_path(name) or parse_repo(name) or find_entry(name) or any(m.ref == name for m in read_manifests(root))
    )


def guide() -> LocatedModel:
    return LocatedModel(GUIDE_REF, paths.builtin_model(GUIDE_REF), GUIDE.licence, entry=GUIDE)


def installed_models(root: Path) -> list[LocatedModel]:
    """The models that have a manifest and their folder."""
    return [_located(m, root) for m in read_manifests(root) if (root / m.folder).is_dir()]


def locate(name: str, root: Path) -> LocatedModel:
    """The model that `name` stands for. Raises ModelNotFound, ModelNotInstalled."""
    if name.lower() == GUIDE_REF:
        return guide()
    if is_path(name):
        path = Path(name).expanduser()
        return LocatedModel(name, path, UNKNOWN_LICENCE)
    entry, repo = find_entry(name), parse_repo(name)
    wanted = RepoRef(entry.repo) if entry else repo
    for model in installed_models(root):
        if model.ref.lower() == name.lower() or (wanted and _matches(model, wanted)):
            return model
    if wanted:
        raise ModelNotInstalled(f"{name} is not installed", hint=f"lmsupply pull {name}")
    if "/" in name or "\\" in name or name.startswith((".", "~")):
        raise ModelNotFound(f"no such folder: {name}", hint="lmsupply models lists what there is")
    near = closest(name, [m.ref for m in installed_models(root)])
    raise ModelNotFound(
        f"no model is called {name!r}", hint=f"did you mean {near}?" if near else "lmsupply models lists what there is"
    )


def best_installed(root: Path) -> LocatedModel | None:
    """Without a name: of the installed models the one with the most parameters; then the first by ref."""
    models = installed_models(root)
    return min(models, key=lambda m: (-(m.entry.parameters if m.entry else 0), m.ref), default=None)


def _matches(model: LocatedModel, wanted: RepoRef) -> bool:
    if model.repo.lower() != wanted.repo.lower():
        return False
    if wanted.variant and wanted.variant.lower() not in model.variant.lower():
        return False
    return not wanted.revision or wanted.revision == "main" or model.commit.startswith(wanted.revision)


def _located(manifest: Manifest, root: Path) -> LocatedModel:
    entry = entry_of_repo(manifest.repo)
    licence = entry.licence if entry else Licence(manifest.licence, "unknown")
    return LocatedModel(
        manifest.ref, root / manifest.folder, licence, manifest.repo, manifest.commit, manifest.variant, entry
    )
