"""A process that is killed at any change of the disk leaves a store that works, and nothing that cannot be freed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import Hub, Repo, local_hub
from support.killed import ForkServer, Job

from lmsupply_cli.store.leftovers import find_leftovers, free_leftovers
from lmsupply_cli.store.manifest import Manifest, read_manifests, read_records
from lmsupply_cli.store.verify import verify

MODEL = {path.name: path.read_bytes() for path in (Path(__file__).parent.parent / "models" / "toy").iterdir()}
MOST_CALLS = 400


@pytest.fixture
def hub() -> Iterator[Hub]:
    with local_hub() as hub:
        files = {f"cpu-{kind}/{name}": data for kind in ("int4", "int8") for name, data in MODEL.items()}
        hub.repos["a/b"] = Repo({**files, "LICENSE": b"for all"})
        yield hub


@pytest.fixture
def server(hub: Hub) -> Iterator[ForkServer]:
    with ForkServer(hub.url) as server:
        yield server


def installed(root: Path) -> list[Manifest]:
    """What is installed, once it is sure to be whole."""
    records = read_records(root)
    assert not records.skipped
    for manifest in records.manifests:
        assert verify(root, manifest).ok
    return list(records.manifests)


def strangers(root: Path) -> list[Path]:
    """Files that no installed model needs; when a model was used, and locks, are none."""
    needed = {path for m in read_manifests(root) for path in m.paths(root)}
    needed |= {root / ".lmsupply" / "manifests" / f"{m.key}.json" for m in read_manifests(root)}
    refs = set(root.glob("models--*/refs/*")) if needed else set()
    return [path for path in root.rglob("*") if path.is_file() and path not in needed | refs]


INT4, INT8 = "a/b:cpu-int4", "a/b:cpu-int8"
# what is done, what is installed before and after
START: dict[str, tuple[Job, list[str], list[str]]] = {
    "pull": (Job("", pull=(INT4,)), [], [INT4]),
    "a second variant": (Job("", pull=(INT8,)), [INT4], [INT4, INT8]),
    "remove": (Job("", remove=(INT4,)), [INT4, INT8], [INT8]),
    "repair": (Job("", repair=(INT4,)), [INT4], [INT4]),
}


@pytest.mark.parametrize("what", START)
def test_a_kill_at_every_change_of_the_disk(server: ForkServer, tmp_path: Path, what: str) -> None:
    job, before, after = START[what]
    start = tmp_path / "start"
    start.mkdir()
    for ref in before:
        assert server.round([Job(str(start), pull=(ref,))]) == [0]
    if what == "repair":
        (model,) = start.glob("models--*/snapshots/*/cpu-int4/model.onnx")
        model.write_bytes(bytes(model.stat().st_size))
    for kill_at in range(1, MOST_CALLS):
        root = tmp_path / str(kill_at)
        shutil.copytree(start, root)
        change = Job(**(vars(job) | {"root": str(root), "kill_at": kill_at}))
        (code,) = server.round([change])
        if what != "repair":
            installed(root)
        if code == 0:
            break
        assert code == -9
        if kill_at % 2 and what != "repair":  # free what is left, or do it again
            left = find_leftovers(root)
            assert free_leftovers(root) == (left.size_bytes, ())
        else:
            assert server.round([Job(**(vars(change) | {"kill_at": 0}))]) == [0]
            assert [m.ref for m in installed(root)] == after
            free_leftovers(root)
        assert strangers(root) == []
        shutil.rmtree(root)
    else:
        raise AssertionError("it never came to its end")
    assert kill_at > 5


def test_what_is_left_can_be_freed_although_that_is_killed_too(server: ForkServer, tmp_path: Path) -> None:
    for kill_at in range(1, MOST_CALLS):
        root = tmp_path / str(kill_at)
        server.round([Job(str(root), pull=(INT4,), kill_at=20)])
        (code,) = server.round([Job(str(root), free=True, kill_at=kill_at)])
        installed(root)
        free_leftovers(root)
        assert strangers(root) == []
        if code == 0:
            return
    raise AssertionError("it never came to its end")
