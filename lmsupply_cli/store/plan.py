"""What a pull would do: a value, printed by --dry-run and carried out by `pull`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.catalogue.entry import License
from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.files import free_bytes, size_of
from lmsupply_cli.hub.resolve import Resolution
from lmsupply_cli.hub.sources import SourceChoice, SourceVariant
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.store.digest import file_matches
from lmsupply_cli.store.layout import file_path, part_path, snapshot_dir
from lmsupply_cli.store.manifest import (
    FileRecord,
    ImportForm,
    Manifest,
    SourceFile,
    digest_of_source,
    read_manifests,
)

ROOM_BYTES = 64_000_000  # left on the disk beyond what is fetched


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """`have_bytes` are here already: in a part, or all of them. `in_place`: nothing is left to do; `copied`: its
    content comes from another file."""

    file: RepoFile
    have_bytes: int
    in_place: bool = False
    copied: bool = False

    @property
    def fetch_bytes(self) -> int:
        return 0 if self.copied else self.file.size_bytes - self.have_bytes


@dataclass(frozen=True, kw_only=True)
class FetchPlan:
    """Files of a repo that are brought here. `reserved_bytes`: disk space that is needed beyond them; `distrusted`: files
    that are hashed again, since their record is not trusted; `obstacles`: what is in the way of running the model here."""

    ref: str
    tree: RepoTree
    license: License
    files: tuple[PlannedFile, ...]
    free_disk_bytes: int
    reserved_bytes: int = 0
    distrusted: frozenset[str] = frozenset()
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def fetch_bytes(self) -> int:
        return sum(planned.fetch_bytes for planned in self.files)

    @property
    def total_bytes(self) -> int:
        return sum(planned.file.size_bytes for planned in self.files)

    @property
    def fits_disk(self) -> bool:
        needed = self.fetch_bytes + self.reserved_bytes
        return needed == 0 or needed + ROOM_BYTES <= self.free_disk_bytes


@dataclass(frozen=True, kw_only=True)
class PullPlan(FetchPlan):
    """A variant to install. `installed`: it is in the store already; `repairs`: the installed model whose files are
    `distrusted`."""

    resolution: Resolution
    repairs: Manifest | None = None
    installed: bool = False

    @property
    def up_to_date(self) -> bool:
        """The model is installed, and every file of it is in place."""
        return self.installed and all(planned.in_place for planned in self.files)


@dataclass(frozen=True, kw_only=True)
class SourcePlan(FetchPlan):
    """What a model is imported from. `imported`: the installed imports of the same contents, in any form."""

    choice: SourceChoice
    imported: tuple[Manifest, ...] = ()

    @property
    def source(self) -> SourceVariant:
        return self.choice.chosen

    def imported_as(self, form: ImportForm) -> Manifest | None:
        """The installed import in this form."""
        return next((m for m in self.imported if m.source and m.source.form == form), None)


def make_plan(
    root: Path,
    ref: str,
    tree: RepoTree,
    resolution: Resolution,
    license: License,
    *,
    repairs: Manifest | None = None,
    distrusted: Collection[str] = (),
) -> PullPlan:
    """The plan for what was chosen, compared with what the store has. Raises FileError."""
    manifests = read_manifests(root)
    variant = (tree.repo, tree.commit, resolution.chosen.folder)
    return PullPlan(
        ref=ref,
        tree=tree,
        resolution=resolution,
        license=license,
        files=planned_files(root, tree, resolution.chosen.files, manifests, distrusted=distrusted),
        free_disk_bytes=free_bytes(root),
        repairs=repairs,
        distrusted=frozenset(distrusted),
        installed=any((m.repo, m.commit, m.variant) == variant for m in manifests if not m.source),
    )


def make_source_plan(root: Path, ref: str, tree: RepoTree, choice: SourceChoice, license: License) -> SourcePlan:
    """As `make_plan`, for what a model is imported from. Raises FileError."""
    manifests = read_manifests(root)
    source = choice.chosen
    digest = digest_of_source(source_files(source)) if all(file.digest for file in source.files) else ""
    return SourcePlan(
        ref=ref,
        tree=tree,
        choice=choice,
        license=license,
        files=planned_files(root, tree, (*source.files, *source.licenses), manifests),
        free_disk_bytes=free_bytes(root),
        imported=tuple(m for m in manifests if m.source and digest_of_source(m.source.files) == digest),
    )


def source_files(source: SourceVariant) -> tuple[SourceFile, ...]:
    """The files of a source as a record names them."""
    return tuple(SourceFile(file.target, file.size_bytes, file.digest) for file in source.files)


def planned_files(
    root: Path,
    tree: RepoTree,
    files: Sequence[RepoFile],
    installed: Sequence[Manifest],
    *,
    distrusted: Collection[str] = (),
) -> tuple[PlannedFile, ...]:
    """What each file still needs. A whole file counts only where a manifest vouches for it, since its bytes were
    checked then; one of the right size without a manifest is checked again. One content is fetched once.

    Raises FileError for a path or digest that cannot be one.
    """
    snapshot = snapshot_dir(root, tree.repo, tree.commit)
    records = {root / path: r for m in installed if not m.added for path, r in m.contents()}
    known = {(r.digest, r.size_bytes) for r in records.values() if r.digest}
    found: list[PlannedFile] = []
    for file in files:
        here, part = file_path(snapshot, file.target), part_path(root, file, tree.repo, tree.commit)
        vouched = records.get(here) == FileRecord(file.size_bytes, file.digest) and file.target not in distrusted
        if _is_here(here, file, vouched=vouched):
            found.append(PlannedFile(file, file.size_bytes, in_place=True))
            continue
        content = (file.digest, file.size_bytes)
        copied = bool(file.digest) and content in known and file.target not in distrusted
        have = 0 if copied else min(max(0, size_of(part)), file.size_bytes)
        found.append(PlannedFile(file, have, copied=copied))
        known.add(content)
    return tuple(found)


def _is_here(path: Path, file: RepoFile, *, vouched: bool) -> bool:
    if size_of(path) != file.size_bytes:
        return False
    try:
        return vouched or file_matches(path, file.digest, file.size_bytes)
    except OSError:
        return False
