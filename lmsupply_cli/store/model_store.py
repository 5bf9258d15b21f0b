"""ModelStore: what is installed, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import GUIDE_REF
from lmsupply_cli.errors import ModelNotInstalled, UsageError
from lmsupply_cli.files import is_folder
from lmsupply_cli.store.add import add_folder
from lmsupply_cli.store.locate import LocatedModel, installed_models, locate, located
from lmsupply_cli.store.manifest import Manifest, read_manifests
from lmsupply_cli.store.remove import carry_out
from lmsupply_cli.store.verify import ModelCheck, verify

_LISTED = "lmsupply models --installed lists the installed models"


class ModelStore:
    """The store at `cache_dir`, by default the one that the command line uses."""

    def __init__(self, cache_dir: Path | str | None = None) -> None:
        self.root = paths.store_root(cache_dir)

    def list(self) -> list[LocatedModel]:
        """The installed models; only `get` finds those that other tools put into the cache."""
        return installed_models(self.root)

    def get(self, ref: str) -> LocatedModel:
        """Raises ModelNotFound, ModelNotInstalled."""
        return locate(ref, self.root)

    def add(self, folder: Path | str, alias: str, *, license: str = "unknown", tier: str = "unknown") -> LocatedModel:
        """Register a local folder; it is used in place. Raises UsageError, ModelFilesError."""
        return located(add_folder(self.root, Path(folder), alias, license=license, tier=tier), self.root)

    def remove(self, ref: str) -> int:
        """Remove a pulled model, or unregister an added folder; returns the bytes freed. Files that another model
        shares are kept. Raises ModelNotFound, ModelNotInstalled, FileError."""
        return carry_out(self.root, [self._manifest(ref)]).freed_bytes

    def verify(self, ref: str) -> ModelCheck:
        """Check its files against the recorded checksums. Raises ModelNotFound, ModelNotInstalled."""
        return verify(self.root, self._manifest(ref))

    def _manifest(self, ref: str) -> Manifest:
        key = locate(ref, self.root).key
        found = next((m for m in read_manifests(self.root) if m.key == key), None)
        if not key or found is None:
            raise ModelNotInstalled(f"{ref} is not in the store", hint="it is built in, a folder, or another tool's")
        return found


def _is_lost(manifest: Manifest, name: str, root: Path) -> bool:
    """An added folder that is no longer there."""
    return manifest.added and manifest.ref.lower() == name.lower() and not is_folder(root / manifest.folder)


def find_manifests(names: Sequence[str], root: Path) -> list[Manifest]:
    """lmsupply's own records for these names. Raises ModelNotFound, ModelNotInstalled, UsageError."""
    by_key = {m.key: m for m in read_manifests(root)}
    found = []
    for name in names:
        if lost := next((m for m in by_key.values() if _is_lost(m, name, root)), None):
            found.append(lost)
            continue
        try:
            model = locate(name, root)
        except ModelNotInstalled as error:
            unfinished = "--partial" in error.hint
            raise ModelNotInstalled(error.message, hint=error.hint if unfinished else _LISTED) from error
        if model.external:
            raise UsageError(f"{name} belongs to another tool: {model.path}", hint="use that tool for it")
        if model.ref == GUIDE_REF:
            raise UsageError(f"{GUIDE_REF} is built in and comes with lmsupply", hint=_LISTED)
        if model.key not in by_key:
            raise ModelNotInstalled(f"{name} is not in the model store", hint=_LISTED)
        found.append(by_key[model.key])
    return list({m.key: m for m in found}.values())
