"""Models that other tools put into a Hugging Face cache: found, checked for completeness, used in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENCE
from lmsupply_cli.catalogue.lookup import entry_of_repo
from lmsupply_cli.engine.folder import CONFIG, open_folder
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.store.external_data import missing_data
from lmsupply_cli.store.locate import LocatedModel
from lmsupply_cli.store.manifest import read_manifests


def external_models(root: Path, *, repo: str | None = None) -> list[LocatedModel]:
    """Complete models without a manifest of ours, in our root and in the user's Hugging Face cache."""
    ours = {(root / m.folder).resolve() for m in read_manifests(root)}
    roots = dict.fromkeys(folder.absolute() for folder in (root, paths.hugging_face_cache()))
    found = []
    for cache in roots:
        for name, commit, folder, snapshot in _folders(cache, repo):
            if folder.resolve() in ours or not is_complete(folder):
                continue
            variant = "" if folder == snapshot else folder.relative_to(snapshot).as_posix()
            entry = entry_of_repo(name, variant)
            licence = entry.licence if entry else UNKNOWN_LICENCE
            ref = entry.ref if entry else f"{name}:{variant}" if variant else name
            found.append(LocatedModel(ref, folder, licence, name, commit, variant, entry, external=True))
    return found


def is_complete(folder: Path) -> bool:
    """Is everything here that the folder's config names, with its weights and a tokenizer?"""
    try:
        opened = open_folder(folder, trust=True)
        return (folder / "tokenizer.json").exists() and missing_data(folder, opened.graphs) is None
    except (LmsupplyError, OSError):
        return False


def _folders(cache: Path, repo: str | None) -> Iterator[tuple[str, str, Path, Path]]:
    """(repo, commit, model folder, snapshot) of every folder with a config."""
    pattern = f"models--{repo.replace('/', '--')}" if repo else "models--*"
    for home in sorted(cache.glob(pattern)):
        name = home.name.removeprefix("models--").replace("--", "/", 1)
        for snapshot in sorted((home / "snapshots").glob("*")):
            for config in sorted(snapshot.rglob(CONFIG)):
                yield name, snapshot.name, config.parent, snapshot
