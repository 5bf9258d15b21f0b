"""Which models of other programs are imported already, as far as that is known without reading their weights."""

from __future__ import annotations

import re
from pathlib import Path

from lmsupply_cli.files import is_folder, resolved, size_of
from lmsupply_cli.store.found import FoundModel
from lmsupply_cli.store.manifest import Manifest, SourceFile, digest_of_source, read_manifests
from lmsupply_cli.store.source_paths import digests_known, known_digests

_SHA256 = re.compile(r"(?:sha256-)?([0-9a-f]{64})")  # blobs of Ollama, and large ones of the Hugging Face cache
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")  # small blobs of the Hugging Face cache


class FoundImports:
    """The imports of a store, by what they were imported from."""

    def __init__(self, root: Path) -> None:
        self._root, self._known = root, digests_known(root)
        self._records: dict[str, list[Manifest]] = {}
        for manifest in read_manifests(root):
            if manifest.source and is_folder(root / manifest.folder):
                self._records.setdefault(digest_of_source(manifest.source.files), []).append(manifest)

    def of(self, model: FoundModel) -> Manifest | None:
        """The import of these contents: that of the model's own name first, then the newest."""
        files = known_digests(self._root, model.files, self._known) or _stated_digests(model.files)
        found = self._records.get(digest_of_source(files), []) if files else []
        return max(found, key=lambda m: (m.ref == model.name, m.pulled), default=None)


def _stated_digests(files: tuple[Path, ...]) -> tuple[SourceFile, ...]:
    """As the names of the blobs state them; () where one states none."""
    found = []
    for file in files:
        name = resolved(file)
        if name.parent.name != "blobs":
            return ()
        if match := _SHA256.fullmatch(name.name):
            digest = f"sha256:{match[1]}"
        elif _GIT_SHA1.fullmatch(name.name):
            digest = f"git-sha1:{name.name}"
        else:
            return ()
        found.append(SourceFile(str(file), size_of(file), digest))
    return tuple(found)
