"""The models that others may ask for: the guide and those of the store, by name. No engine is imported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import GUIDE_REF
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.files import folder_bytes, listed
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.loading.formats import read_capabilities
from lmsupply_cli.loading.recommend import named_by_role
from lmsupply_cli.serving.requests import ServedModel
from lmsupply_cli.store.digest import digest_of
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.layout import manifests_dir
from lmsupply_cli.store.locate import LocatedModel, guide, installed_models, locate, locate_served
from lmsupply_cli.store.manifest import read_manifests

_MOST_NAMES = 1000  # that are remembered
Stamp = tuple[tuple[str, int, int], ...]


class FoundModel(NamedTuple):
    """`key`: the same for all names of one model; `load_name`: what `load` finds it by; `row`: nothing of it depends on
    whether the model is loaded."""

    key: str
    load_name: str
    located: LocatedModel
    row: ServedModel


class ServedModels:
    """Names and rows are kept until a record of the store, or the user's catalogue, changes."""

    def __init__(self, cache_dir: Path | str | None = None) -> None:
        self._root = paths.store_root(cache_dir)
        self._stamp: Stamp | None = None
        self._described: dict[tuple[str, str], FoundModel] = {}
        self._found: dict[str, FoundModel] = {}
        self._all: list[FoundModel] | None = None

    def all(self) -> list[FoundModel]:
        """The guide first; a model whose folder cannot be used is left out."""
        self._look()
        if self._all is None:
            self._all = []
            for located in (guide(), *installed_models(self._root)):
                try:
                    self._all.append(self._describe(located))
                except LmsupplyError:
                    continue
        return self._all

    def find(self, name: str, available_bytes: Callable[[], int]) -> FoundModel:
        """`available_bytes`: what the model of a role may need. Raises ModelNotFound, ModelNotInstalled,
        ModelFilesError."""
        name = named_by_role(name, available_bytes)
        self._look()
        known = name.lower()
        if known not in self._found:
            found = self._describe(locate_served(name, self._root))
            if len(self._found) >= _MOST_NAMES:
                self._found.clear()
            self._found[known] = found
        return self._found[known]

    def _look(self) -> None:
        """Forget what is known if something changed."""
        if (stamp := _stamp_of(self._root)) != self._stamp:
            self._stamp, self._all = stamp, None
            self._described.clear()
            self._found.clear()

    def _describe(self, located: LocatedModel) -> FoundModel:
        key = (str(located.path), located.ref)
        if key not in self._described:
            load_name, row = _load_name(located, self._root), _row_of(located, self._root)
            self._described[key] = FoundModel(key[0], load_name, located, row)
        return self._described[key]


def _stamp_of(root: Path) -> Stamp:
    """The same as long as no record and no catalogue of the user's changes."""
    rows = []
    for path in (*listed(manifests_dir(root), "*.json"), paths.config_dir() / "models.toml"):
        try:
            found = path.stat()
        except (OSError, ValueError):
            continue
        rows.append((path.name, found.st_mtime_ns, found.st_size))
    return tuple(rows)


def _load_name(located: LocatedModel, root: Path) -> str:
    """Its ref, or where that leads elsewhere (an older commit, a file of another program) its folder."""
    if located.ref == GUIDE_REF:
        return GUIDE_REF
    try:
        same = locate(located.ref, root).path == located.path
    except LmsupplyError:
        same = False
    return located.ref if same else str(located.path)


def _row_of(located: LocatedModel, root: Path) -> ServedModel:
    """Raises ModelFilesError."""
    folder = open_model(located, weights=False)
    entry, model = located.entry, folder.model
    manifest = next((m for m in read_manifests(root) if located.key and m.key == located.key), None)
    capabilities = read_capabilities(folder)
    files = {path: record.digest for path, record in manifest.files.items()} if manifest else _digests(located.path)
    return ServedModel(
        ref=located.ref,
        aliases=entry.aliases if entry else (),
        context_length=model["context_length"],
        size_bytes=manifest.size_bytes if manifest else folder_bytes(located.path, below=False),
        modified=_time_of(manifest.pulled) if manifest else _changed(located.path),
        digest=_digest(files),
        family=entry.family if entry else str(model.get("type", "")),
        parameters=located.parameters,
        precision=located.precision or "",
        license=located.license.id,
        tools=capabilities.tools,
        thinking=capabilities.thinking,
    )


def _digest(files: dict[str, str]) -> str:
    lines = "".join(f"{path}\0{digest}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: digest_of(path) for path in listed(folder) if path.is_file()}


def _changed(folder: Path) -> float:
    try:
        return (folder / CONFIG).stat().st_mtime
    except OSError:
        return 0.0


def _time_of(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
