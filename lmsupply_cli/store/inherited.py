"""Licenses that files have from where they come: a copy, another name or another form of a model changes none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmsupply_cli.catalogue.entry import License
from lmsupply_cli.catalogue.lookup import read_catalogue
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.files import resolved
from lmsupply_cli.store.locate import located
from lmsupply_cli.store.manifest import Manifest, read_manifests, read_unfinished
from lmsupply_cli.store.source_paths import SourcePath, read_digests

_HOME = "models--"


def known_licenses(root: Path, source: SourcePath, *, listener: ProgressListener | None = None) -> list[License]:
    """Those of the models on this machine that were made from the same weights, and of the repo that the files lie in:
    `models--OWNER--NAME/…`, of our store or of a Hugging Face cache. Weights that are not known by path, size and time of
    change are read. Raises FileError."""
    digests = {
        file.digest
        for file in read_digests(root, source.files, listener=listener)
        if source.format == "gguf" or file.path.lower().endswith(".safetensors")
    }
    repos = {repo for file in source.files for place in (file, resolved(file)) for repo in _repos_of(place)}
    records = (*read_manifests(root), *read_unfinished(root))
    models = [m for m in records if m.repo.lower() in repos or not digests.isdisjoint(_digests_of(m))]
    entries = [entry for entry in read_catalogue() if entry.repo.lower() in repos]
    return [*(entry.license for entry in entries), *(located(m, root).license for m in models)]


def _repos_of(place: Path) -> Iterator[str]:
    """In lower case."""
    for part in place.parts:
        if part.startswith(_HOME) and (repo := part.removeprefix(_HOME).replace("--", "/", 1)):
            yield repo.lower()


def _digests_of(manifest: Manifest) -> Iterator[str]:
    """Of what it is made from, and of its own files."""
    yield from (file.digest for file in manifest.source.files) if manifest.source else ()
    yield from (record.digest for record in manifest.files.values())
