"""From what the user types to a folder on this machine.

A ref is an alias (any case; punctuation is forgiven), `role:…`, `owner/repo[@revision][:variant]`, `NAME:FORM` of an
import, a path, or the name of a model of another program. A GGUF file or a folder of safetensors leads to the model that was imported from it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lmsupply_cli import paths
from lmsupply_cli.addresses import REPO, is_repo, ref_of_page, without_user
from lmsupply_cli.catalogue.entry import GUIDE, GUIDE_REF, UNKNOWN_LICENSE, CatalogueEntry, License
from lmsupply_cli.catalogue.lookup import closest, entry_of_repo, find_entry, forgiving_entry
from lmsupply_cli.catalogue.roles import role_name
from lmsupply_cli.errors import ModelNotFound, ModelNotInstalled, NotImported, UsageError
from lmsupply_cli.files import is_file, is_folder, resolved
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.providers import PRECISIONS
from lmsupply_cli.store.manifest import ImportSource, Manifest, digest_of_source, last_used_s, read_manifests
from lmsupply_cli.store.source_paths import (
    SourcePath,
    is_found_name,
    is_source,
    known_digests,
    no_source,
    source_at,
)
from lmsupply_cli.units import cut

_REF = re.compile(
    rf"(?![^:]*\.\.)(?P<repo>{REPO})(@(?P<revision>\w[\w./-]{{0,250}}?))?(:(?P<variant>[^:\s][^:]*))?", re.ASCII
)
_LONGEST_NAME = 500
_PRECISION = re.compile(rf"(?<![a-z0-9])({'|'.join(PRECISIONS)})(?![a-z0-9])")


class RepoRef(NamedTuple):
    repo: str
    revision: str | None = None
    variant: str | None = None


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """A model on this machine. `repo`, `commit` and `variant` are "" for a plain folder.

    `key` names its manifest, "" where it has none; `external`: another tool's, used in place; `revisions`: branches
    and tags that lead to its commit; `pulled`: ISO date and time; `source`: what it was imported from.
    """

    ref: str
    path: Path
    license: License
    repo: str = ""
    commit: str = ""
    variant: str = ""
    entry: CatalogueEntry | None = None
    key: str = ""
    external: bool = False
    revisions: tuple[str, ...] = ()
    pulled: str = ""
    source: ImportSource | None = None

    @property
    def was_pulled(self) -> bool:
        """Whether lmsupply downloaded it: it is neither a folder of the user's nor another tool's."""
        return bool(self.key and self.repo)

    @property
    def parameters(self) -> float | None:
        """In billions; None if it is not known."""
        if self.entry:
            return self.entry.parameters
        return self.source.parameters / 1e9 if self.source and self.source.parameters else None

    @property
    def precision(self) -> str | None:
        """Of the weights, such as "int4", by the name of the variant or folder; None if it does not say."""
        if self.ref == GUIDE_REF:
            return "int4"
        if self.source:
            return self.source.stored_precision
        match = _PRECISION.search((self.variant or resolved(self.path).name).lower())
        return match.group(1) if match else None


def parse_repo(name: str) -> RepoRef | None:
    """`owner/repo[@revision][:variant]`, also as its Hub URL."""
    match = _REF.fullmatch((ref_of_page(name.strip()) or "").rstrip("/"))
    if not match or not is_repo(match["repo"]):
        return None
    return RepoRef(match["repo"], match["revision"], match["variant"])


def named_repo(name: str) -> tuple[CatalogueEntry | None, RepoRef]:
    """The catalogue entry, if there is one, and the repo that `name` stands for. Raises ModelNotFound."""
    name = without_user(name)
    entry, repo = _entry_or_repo(name)
    if repo:
        return entry, repo
    if entry:
        raise ModelNotFound(f"{name} is built in", hint=f"there is nothing to download: lmsupply chat {name}")
    raise _unknown(name)


def _entry_or_repo(name: str) -> tuple[CatalogueEntry | None, RepoRef | None]:
    """The one place that decides what a name means: a name of the catalogue first, then `owner/repo`."""
    entry = forgiving_entry(name)
    if entry:
        return entry, RepoRef(entry.repo, entry.revision) if entry.repo else None
    return None, parse_repo(name)


def _unknown(name: str, installed: Sequence[str] = ()) -> ModelNotFound:
    if "://" in name:
        return ModelNotFound(f"{name} is not the URL of a model on the Hub", hint="write it as owner/repo")
    if missing := no_source(name):
        return missing
    if is_source(name):
        way = f"there is nothing to download: lmsupply run {shlex.quote(name)}"
        return ModelNotFound(f"{name} is on this machine", hint=way)
    if is_path(name):
        holds = is_file(Path(name).expanduser() / CONFIG)
        way = f"there is nothing to download: lmsupply run {shlex.quote(name)}" if holds else f"it has no {CONFIG}"
        return ModelNotFound(f"{name} is a local folder", hint=way)
    if "/" in name or "\\" in name or name.startswith((".", "~")):
        return ModelNotFound(f"no such folder: {name}", hint="check the path, or run lmsupply models to list models")
    near = closest(name, installed)
    return ModelNotFound(
        f"model {name!r} not found", hint=f"did you mean {near}?" if near else "run lmsupply models to list models"
    )


def is_path(name: str) -> bool:
    """Does `name` look like a path, and lead to a folder? One that may also name a repo must hold a model."""
    if not ("/" in name or "\\" in name or name.startswith((".", "~"))):
        return False
    try:
        folder = Path(name).expanduser()
    except RuntimeError:  # no such home
        return False
    return is_file(folder / CONFIG) if parse_repo(name) else is_folder(folder)


def is_ref(name: str, root: Path) -> bool:
    """May `name` stand for a model: an alias of the catalogue or store, a role, an owner/repo, a path?"""
    return bool(
        role_name(name)
        or is_path(name)
        or is_found_name(name)
        or is_source(name)
        or parse_repo(name)
        or find_entry(name)
        or any(_is_called(m, name) for m in read_manifests(root))
    )


def guide() -> LocatedModel:
    return LocatedModel(GUIDE_REF, paths.builtin_model(GUIDE_REF), GUIDE.license, entry=GUIDE)


def installed_models(root: Path) -> list[LocatedModel]:
    """The models that have a manifest and their folder."""
    return [located(m, root) for m in read_manifests(root) if is_folder(root / m.folder)]


def locate(name: str, root: Path, *, precision: str | None = None) -> LocatedModel:
    """The model that `name` stands for; of a repo only a variant of `precision`, if one is given. Raises ModelNotFound,
    ModelNotInstalled, NotImported, UsageError for a role."""

    def suits(model: LocatedModel) -> bool:
        chosen = bool(model.repo or model.source)
        return precision is None or not chosen or model.precision == precision

    if role_name(name):
        raise UsageError(f"{name} is a role, not a model", hint="name the model; lmsupply models lists roles")
    if name.lower() == GUIDE_REF:
        return guide()
    if source := source_at(name):
        return _imported(source, root, name, suits)
    if is_path(name):
        return at_path(Path(name).expanduser(), root, name)
    name = without_user(name)
    found, wanted = _in_store(name, root, suits)
    if found:
        return found
    if not wanted:
        return _without_repo(name, root)
    from lmsupply_cli.store.external import external_models

    others = [m for m in external_models(root, repo=wanted.repo) if _matches(m, wanted) and suits(m)]
    if other := _newest(others, wanted):
        return other
    raise no_source(name) or _not_installed(name, wanted.repo, root, precision)


def locate_served(name: str, root: Path) -> LocatedModel:
    """As `locate`, for a name that somebody else sent: the guide, or a model of the store. No path is followed, and nothing
    outside the store is looked at. Raises ModelNotFound, ModelNotInstalled."""
    if name.lower() == GUIDE_REF:
        return guide()
    if len(name) > _LONGEST_NAME:
        raise ModelNotFound(f"model {cut(name, 40)!r} not found")
    found, wanted = _in_store(name, root)
    if found:
        return found
    if wanted:
        raise _not_installed(name, wanted.repo, root, None)
    near = closest(name, [m.ref for m in installed_models(root)])
    raise ModelNotFound(f"model {name!r} not found", hint=f"did you mean {near}?" if near else "")


def _in_store(
    name: str, root: Path, suits: Callable[[LocatedModel], bool] = lambda _: True
) -> tuple[LocatedModel | None, RepoRef | None]:
    """The installed model, and the repo that the name stands for."""
    return choose_named(name, [m for m in installed_models(root) if suits(m)])


def choose_named(name: str, models: Sequence[LocatedModel]) -> tuple[LocatedModel | None, RepoRef | None]:
    """Of these models the one that `name` leads to, which is no path and no role; and the repo that it stands for."""
    entry, wanted = _entry_or_repo(name)
    if entry and wanted:  # any revision of it
        wanted = RepoRef(entry.repo, variant=entry.folder or None)
    found = _newest([m for m in models if m.ref.lower() == name.lower()], None)
    if not found and wanted:
        found = _newest([m for m in models if _matches(m, wanted)], wanted)
    return found or _newest([m for m in models if _is_called(m, name)], None), wanted


def _is_called(model: Manifest | LocatedModel, name: str) -> bool:
    """By its ref, or that of a local import with its form: `mine:int8`, `mine:int8-64`."""
    ref, wanted = model.ref.lower(), name.lower()
    if wanted == ref or not model.source or model.repo:
        return wanted == ref
    return wanted in (f"{ref}:{model.source.precision}", f"{ref}:{model.source.form}")


def _imported(
    source: SourcePath, root: Path, name: str, suits: Callable[[LocatedModel], bool] = lambda _: True
) -> LocatedModel:
    """The model that was imported from these files, as far as that is known without reading them. Raises NotImported."""
    if files := known_digests(root, source.files):
        digest = digest_of_source(files)
        here = [
            located(m, root)
            for m in read_manifests(root)
            if m.source and digest_of_source(m.source.files) == digest and is_folder(root / m.folder)
        ]
        found = [model for model in here if suits(model)]
        if found:
            paths = {file.path for file in files}
            return max(
                found,
                key=lambda m: (m.ref == source.found, bool(m.source and m.source.files[0].path in paths), m.pulled),
            )
    error = NotImported(f"{name} is not imported yet", hint=f"lmsupply add {shlex.quote(name)} imports it")
    error.source = name
    raise error


def at_path(path: Path, root: Path, name: str = "") -> LocatedModel:
    """The model in a folder, or imported from a file or folder. A folder of the store or of another program keeps its
    license, whatever path leads to it. Raises NotImported, and as `source_at`."""
    if source := source_at(path):
        return _imported(source, root, name or str(path))
    here = resolved(path)
    records = [m for m in read_manifests(root) if resolved(root / m.folder) == here]
    if pulled := next((m for m in records if not m.added), None):
        return located(pulled, root)
    if other := _external_at(here, root):
        return other
    return located(records[0], root) if records else LocatedModel(name or str(path), path, UNKNOWN_LICENSE)


def _external_at(folder: Path, root: Path) -> LocatedModel | None:
    """The model of a Hugging Face cache in this folder, `models--OWNER--NAME/snapshots/COMMIT/…`."""
    if "snapshots" not in folder.parts:
        return None
    from lmsupply_cli.store.external import external_models

    home = folder.parts[folder.parts.index("snapshots") - 1]
    repo = home.removeprefix("models--").replace("--", "/", 1)
    return next((m for m in external_models(root, repo=repo) if resolved(m.path) == folder), None)


def _without_repo(name: str, root: Path) -> LocatedModel:
    """A model of Foundry Local. Raises ModelNotFound, ModelNotInstalled for an added folder that is gone."""
    from lmsupply_cli.store.external import foundry_models

    foundry = [m for m in foundry_models() if m.ref.lower() == name.lower()]
    if foundry:
        return foundry[0]
    if lost := next((m for m in read_manifests(root) if m.ref.lower() == name.lower()), None):
        raise ModelNotInstalled(
            f"the folder of {lost.ref} is missing: {root / lost.folder}", hint=f"lmsupply rm {lost.ref} unregisters it"
        )
    raise _unknown(name, [m.ref for m in installed_models(root)])


class DefaultModel(NamedTuple):
    """The model that answers if none is named, and why."""

    model: LocatedModel
    reason: str


def default_installed(root: Path, allowed: Callable[[License], bool] = lambda _: True) -> DefaultModel | None:
    """The only installed model or, of several, the one used last, so that pulling another model changes nothing.
    `allowed`: licenses that it should have; without such a model, one of the others."""
    every = installed_models(root)
    if not every:
        return None
    models = [m for m in every if allowed(m.license)] or every
    if len(models) == 1:
        return DefaultModel(models[0], "the only installed model" + ("" if models == every else " that is allowed"))
    used = {m.key: at for m in models if (at := last_used_s(root, m.key))}
    if used:
        return DefaultModel(max(models, key=lambda m: used.get(m.key, 0)), "the model used last")
    return DefaultModel(min(models, key=lambda m: (m.pulled, m.ref)), "the model installed first")


def located(manifest: Manifest, root: Path) -> LocatedModel:
    entry = entry_of_repo(manifest.repo, manifest.variant) if manifest.repo else None
    license = entry.license if entry else License(manifest.license, manifest.tier)  # type: ignore[arg-type]
    return LocatedModel(
        manifest.ref,
        root / manifest.folder,
        license,
        manifest.repo,
        manifest.commit,
        manifest.variant,
        entry,
        manifest.key,
        revisions=(manifest.revision,),
        pulled=manifest.pulled,
        source=manifest.source,
    )


def _matches(model: LocatedModel, wanted: RepoRef) -> bool:
    if model.repo.lower() != wanted.repo.lower():
        return False
    if wanted.variant and not _has_variant(model, wanted.variant.lower()):
        return False
    revision = wanted.revision
    return revision in (None, "main", *model.revisions) or model.commit.startswith(str(revision))


def _has_variant(model: LocatedModel, wanted: str) -> bool:
    """By its name, or that of the file that it was imported from."""
    files = model.source.files if model.source else ()
    return wanted in model.variant.lower() or any(wanted in file.path.lower() for file in files)


def _newest(models: Sequence[LocatedModel], wanted: RepoRef | None) -> LocatedModel | None:
    """Of several the one whose variant has exactly the wanted name; then the one that `main` leads to, unless another
    revision is wanted; then the one pulled last."""
    by_branch = wanted is None or wanted.revision in (None, "main")
    variant = (wanted.variant or "").lower() if wanted else ""
    return max(
        models,
        key=lambda m: (bool(variant) and m.variant.lower() == variant, by_branch and "main" in m.revisions, m.pulled),
        default=None,
    )


def _not_installed(name: str, repo: str, root: Path, precision: str | None) -> ModelNotInstalled:
    from lmsupply_cli.store.leftovers import unfinished_repos

    if repo.lower() in {other.lower() for other in unfinished_repos(root)}:
        return ModelNotInstalled(
            f"{name} is not installed: a pull of it was not finished",
            hint=f"lmsupply pull {name} resumes it; lmsupply rm --partial deletes the unfinished files",
        )
    if precision:
        return ModelNotInstalled(
            f"{name} is not installed in {precision}", hint=f"lmsupply pull {name} --precision {precision}"
        )
    return ModelNotInstalled(f"{name} is not installed", hint=f"lmsupply pull {name}")
