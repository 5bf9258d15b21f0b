"""What a pull would do: a value, printed by --dry-run and carried out by `pull`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.catalogue.entry import Licence
from lmsupply_cli.hub.resolve import Resolution
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.store.manifest import FileRecord, Manifest

ROOM_BYTES = 64_000_000  # left on the disk beyond what is fetched


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """`have_bytes` are here already: in a part, or all of them."""

    file: RepoFile
    have_bytes: int

    @property
    def fetch_bytes(self) -> int:
        return self.file.size_bytes - self.have_bytes


@dataclass(frozen=True)
class PullPlan:
    ref: str
    tree: RepoTree
    resolution: Resolution
    licence: Licence
    files: tuple[PlannedFile, ...]
    free_disk_bytes: int

    @property
    def fetch_bytes(self) -> int:
        return sum(planned.fetch_bytes for planned in self.files)

    @property
    def total_bytes(self) -> int:
        return sum(planned.file.size_bytes for planned in self.files)

    @property
    def fits_disk(self) -> bool:
        return self.fetch_bytes == 0 or self.fetch_bytes + ROOM_BYTES <= self.free_disk_bytes


def snapshot_dir(root: Path, repo: str, commit: str) -> Path:
    """Where the Hugging Face cache keeps a repo at a commit."""
    return repo_dir(root, repo) / "snapshots" / commit


def repo_dir(root: Path, repo: str) -> Path:
    return root / f"models--{repo.replace('/', '--')}"


def parts_dir(root: Path) -> Path:
    return root / ".lmsupply" / "parts"


def part_path(root: Path, file: RepoFile, commit: str) -> Path:
    """One content, one part: a part is found again by any later pull of it."""
    name = file.digest.replace(":", "-") if file.digest else f"{commit}-{file.path.replace('/', '--')}"
    return parts_dir(root) / f"{name}.part"


def planned_files(
    root: Path, tree: RepoTree, resolution: Resolution, installed: list[Manifest]
) -> tuple[PlannedFile, ...]:
    """What each file of the variant still needs. A whole file counts only where a manifest vouches for it,
    since its bytes were checked then; one of the right size without a manifest is checked again."""
    from lmsupply_cli.store.digest import file_matches

    snapshot = snapshot_dir(root, tree.repo, tree.commit)
    vouched = {
        path: record
        for m in installed
        if m.repo == tree.repo and m.commit == tree.commit
        for path, record in m.files.items()
    }
    found = []
    for file in resolution.chosen.files:
        here, part = snapshot / file.path, part_path(root, file, tree.commit)
        size = here.stat().st_size if here.is_file() else -1
        known = vouched.get(file.path) == FileRecord(file.size_bytes, file.digest)
        if size == file.size_bytes and (known or file_matches(here, file.digest, file.size_bytes)):
            have = file.size_bytes
        else:
            have = min(part.stat().st_size, file.size_bytes) if part.is_file() else 0
        found.append(PlannedFile(file, have))
    return tuple(found)
