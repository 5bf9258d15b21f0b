"""The files beside the graphs: what is fetched only once the graphs say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from lmsupply_cli.engine.onnx_graph import external_files
from lmsupply_cli.files import size_of
from lmsupply_cli.hub.tree import RepoFile, RepoTree
from lmsupply_cli.hub.variant import Variant


def further_files(tree: RepoTree, variant: Variant, snapshot: Path) -> list[RepoFile]:
    """Files of the repo that the variant's graphs below `snapshot` keep weights in, and that the variant does not have.

    Graphs that are not here, or are none, name nothing.
    """
    known = {file.target for file in variant.files}
    named = {path for graph in variant.graphs for path in _data_of(graph, snapshot) if path not in known}
    return [file for path in sorted(named) if (file := tree.file(path))]


def _data_of(graph: str, snapshot: Path) -> Iterator[str]:
    path = snapshot / graph
    try:
        names = external_files(path) if size_of(path) > 0 else {}
    except (OSError, ValueError):
        return
    for name in names:
        location = PurePosixPath(name.replace("\\", "/"))
        if not location.is_absolute() and ".." not in location.parts:
            yield (PurePosixPath(graph).parent / location).as_posix()
