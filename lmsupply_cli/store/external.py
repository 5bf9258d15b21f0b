"""Models of other tools: found, checked for completeness, used in place.

In Hugging Face caches (OWNER/NAME, with `blobs` beside the snapshots), and in the cache of Foundry Local.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.catalogue.lookup import entry_of_repo
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.files import is_file, is_folder, listed, read_text, resolved
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.store.locate import LocatedModel
from lmsupply_cli.store.manifest import read_manifests


def external_models(root: Path, *, repo: str | None = None) -> list[LocatedModel]:
    """Complete models without a manifest of ours: in our root, in the user's Hugging Face cache, and of Foundry Local.

    What an unfinished pull of ours left in our root is none. `repo` in any case.
    """
    from lmsupply_cli.store.leftovers import unfinished_repos

    ours = {resolved(root / m.folder) for m in read_manifests(root)}
    unfinished = {name.lower() for name in unfinished_repos(root)}
    found = []
    for cache in dict.fromkeys(resolved(folder) for folder in (root, paths.hugging_face_cache())):
        for name, home in _homes(cache):
            if (repo and name.lower() != repo.lower()) or (cache == resolved(root) and name.lower() in unfinished):
                continue
            refs = _refs(home)
            for folder, snapshot in _folders(home):
                if resolved(folder) in ours or not is_complete(folder):
                    continue
                variant = "" if folder == snapshot else folder.relative_to(snapshot).as_posix()
                found.append(_located(name, snapshot, folder, variant, refs))
    return found if repo else found + foundry_models()


def foundry_models() -> list[LocatedModel]:
    """The models in the cache of Foundry Local, by the name of their folder below the publisher's."""
    cache = paths.foundry_cache()
    configs = listed(cache, f"*/*/**/{CONFIG}") if cache else []
    found: dict[str, LocatedModel] = {}
    for config in configs:
        name = config.relative_to(cache or config).parts[1]
        if is_complete(config.parent):  # of several versions the last one
            found[name] = LocatedModel(name, config.parent, UNKNOWN_LICENSE, external=True, pulled=_time_of(config))
    return list(found.values())


def is_complete(folder: Path) -> bool:
    """Is everything here that it needs to run, apart from a flag?"""
    from lmsupply_cli.engine.folder import look_at_folder

    try:
        return all(obstacle.lifted_by for obstacle in look_at_folder(folder)[1])
    except LmsupplyError:
        return False


def _located(name: str, snapshot: Path, folder: Path, variant: str, refs: dict[str, str]) -> LocatedModel:
    entry = entry_of_repo(name, variant)
    return LocatedModel(
        ref=entry.ref if entry else f"{name}:{variant}" if variant else name,
        path=folder,
        license=entry.license if entry else UNKNOWN_LICENSE,
        repo=name,
        commit=snapshot.name,
        variant=variant,
        entry=entry,
        external=True,
        revisions=tuple(sorted(ref for ref, commit in refs.items() if commit == snapshot.name)),
        pulled=_time_of(snapshot),
    )


def _homes(cache: Path) -> Iterator[tuple[str, Path]]:
    for home in listed(cache, "models--*"):
        yield home.name.removeprefix("models--").replace("--", "/", 1), home


def _folders(home: Path) -> Iterator[tuple[Path, Path]]:
    """(model folder, snapshot) of every folder with a config."""
    for snapshot in listed(home / "snapshots"):
        for config in listed(snapshot, f"**/{CONFIG}") if is_folder(snapshot) else ():
            yield config.parent, snapshot


def _refs(home: Path) -> dict[str, str]:
    """Revision → commit."""
    found = {}
    for path in listed(home / "refs", "**/*"):
        if is_file(path):
            try:
                found[path.relative_to(home / "refs").as_posix()] = read_text(path, limit_bytes=1000).strip()
            except LmsupplyError:
                continue
    return found


def _time_of(path: Path) -> str:
    """When it changed, as records write it."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    except (OSError, ValueError, OverflowError):
        return ""
