"""What removing a model would free, and doing it: never what another model shares."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.store.manifest import Manifest, read_manifests, remove_manifest
from lmsupply_cli.store.plan import parts_dir, repo_dir


@dataclass(frozen=True)
class Removal:
    """`shared` are files that another installed model needs too: they stay."""

    manifests: tuple[Manifest, ...]
    files: tuple[Path, ...]
    shared: tuple[Path, ...]
    freed_bytes: int


def plan_removal(root: Path, manifests: Sequence[Manifest]) -> Removal:
    """A folder that was added is forgotten, and its files stay where they are."""
    going = {m.key for m in manifests}
    kept = {
        root / m.snapshot / path for m in read_manifests(root) if m.key not in going and not m.added for path in m.files
    }
    files = list(dict.fromkeys(root / m.snapshot / path for m in manifests if not m.added for path in m.files))
    free = [path for path in files if path not in kept and path.is_file()]
    return Removal(
        tuple(manifests), tuple(free), tuple(f for f in files if f in kept), sum(p.stat().st_size for p in free)
    )


def plan_partial_removal(root: Path) -> Removal:
    """The parts of unfinished pulls."""
    parts = tuple(sorted(parts_dir(root).glob("*.part")))
    return Removal((), parts, (), sum(part.stat().st_size for part in parts))


def carry_out(root: Path, removal: Removal) -> None:
    """Manifests first: a model that is half removed is not installed. Raises OSError."""
    for manifest in removal.manifests:
        remove_manifest(root, manifest)
    for path in removal.files:
        path.unlink(missing_ok=True)
        _prune(path.parent, root)
    for manifest in removal.manifests:
        if not manifest.added:
            _drop_refs(root, manifest)


def _drop_refs(root: Path, manifest: Manifest) -> None:
    home = repo_dir(root, manifest.repo)
    if (root / manifest.snapshot).exists():
        return
    for ref in (home / "refs").glob("*"):
        if ref.is_file() and ref.read_text(encoding="utf-8").strip() == manifest.commit:
            ref.unlink()
    for folder in (home / "refs", home / "snapshots", home):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _prune(folder: Path, root: Path) -> None:
    """Remove folders that became empty, up to the root."""
    while folder != root and root in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
