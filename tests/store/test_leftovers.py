"""What an interrupted pull or removal leaves is known, listed and freed, and what is in use is left alone."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.hub import Fault, Hub, Repo, local_hub

from lmsupply_cli.errors import FileError, LmsupplyError, ModelNotInstalled
from lmsupply_cli.store.external import external_models
from lmsupply_cli.store.leftovers import find_leftovers, free_leftovers
from lmsupply_cli.store.locate import locate
from lmsupply_cli.store.manifest import read_manifests
from lmsupply_cli.store.pull import plan_pull, run_pull
from lmsupply_cli.store.remove import carry_out, plan_removal
from lmsupply_cli.store.verify import verify

MODEL = {path.name: path.read_bytes() for path in (Path(__file__).parent.parent / "models" / "llama").iterdir()}
DATA = "model.onnx.data"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        files = {f"cpu-{kind}/{name}": data for kind in ("int4", "int8") for name, data in MODEL.items()}
        files |= {f"cpu-int8/{DATA}": MODEL[DATA] + bytes(300_000)}
        hub.repos["o/n"] = Repo({**files, "LICENSE": b"for all"})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def pull(ref: str, root: Path) -> None:
    run_pull(plan_pull(ref, root), root)


@contextmanager
def running_pull(hub: Hub, root: Path, ref: str, path: str) -> Iterator[None]:
    """A pull that hangs in the middle of `path`; it ends well once the block is left."""
    let_go = threading.Event()
    hub.faults = [Fault("cdn", "stall", path, after=10_000, silent_s=60)]
    hub.pause = let_go
    failures: list[BaseException] = []

    def work() -> None:
        try:
            pull(ref, root)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 30
    while hub.served < 10_000:
        assert time.monotonic() < deadline
    try:
        yield
    finally:
        let_go.set()
        thread.join(60)
    assert not thread.is_alive()
    assert failures == []


def test_what_a_running_pull_needs_is_not_removed(hub: Hub, tmp_path: Path) -> None:
    pull("o/n:int4", tmp_path)
    hub.served = 0
    waited = threading.Event()
    with running_pull(hub, tmp_path, "o/n:int8", f"cpu-int8/{DATA}"):
        left = find_leftovers(tmp_path)
        assert (left.busy, left.files, left.parts) == (("o/n",), {}, ())
        assert free_leftovers(tmp_path) == (0, ("o/n",))
        manifests = read_manifests(tmp_path)
        remover = threading.Thread(
            target=carry_out, args=(tmp_path, manifests), kwargs={"waiting": lambda _: waited.set()}
        )
        remover.start()
        assert waited.wait(30), "a removal waits for the pull"
        assert read_manifests(tmp_path) == manifests
    remover.join(30)
    (int8,) = read_manifests(tmp_path)
    assert int8.variant == "cpu-int8"
    assert verify(tmp_path, int8).ok
    assert find_leftovers(tmp_path).size_bytes == 0


def interrupted(hub: Hub, root: Path, ref: str, path: str) -> None:
    """A pull that ends with an error when it comes to `path`."""
    hub.faults = [Fault("resolve", "status", path, status=403, times=99)]
    with pytest.raises(LmsupplyError):
        pull(ref, root)
    hub.faults = []
    for thread in threading.enumerate():  # a worker that waited for an answer is left behind, and ends then
        if thread.name.endswith("(work)"):
            thread.join(30)


def test_an_interrupted_pull_is_freed_to_the_last_byte(hub: Hub, tmp_path: Path) -> None:
    interrupted(hub, tmp_path, "o/n:int4", "cpu-int4/chat_template.jinja")
    with pytest.raises(ModelNotInstalled, match="was not finished") as caught:
        locate("o/n", tmp_path)
    assert "lmsupply rm --partial" in caught.value.hint
    assert external_models(tmp_path) == [], "what is complete by chance is nobody else's"
    left = find_leftovers(tmp_path)
    assert left.size_bytes > 0
    assert free_leftovers(tmp_path) == (left.size_bytes, ())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    pull("o/n:int4", tmp_path)
    assert verify(tmp_path, read_manifests(tmp_path)[0]).ok


def test_a_file_that_is_not_needed_makes_no_model_of_another_tool(hub: Hub, tmp_path: Path) -> None:
    interrupted(hub, tmp_path, "o/n:int4", "LICENSE")
    assert external_models(tmp_path) == []
    with pytest.raises(ModelNotInstalled):
        locate("o/n:int4", tmp_path)


def test_files_without_any_record_are_freed_in_a_store_of_our_own_only(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull("o/n:int4", tmp_path)
    shutil.rmtree(tmp_path / ".lmsupply")
    assert external_models(tmp_path) == []
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert find_leftovers(tmp_path).files == {}, "in the Hugging Face cache it may be anybody's"
    assert [m.ref for m in external_models(tmp_path)] == ["o/n:cpu-int4"]
    monkeypatch.delenv("HF_HUB_CACHE")
    assert free_leftovers(tmp_path)[0] > len(MODEL[DATA])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_the_hub_s_own_client_fetched_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    """It has `blobs` beside its snapshots, and may share our root."""
    pull("o/n:int4", tmp_path)
    home = tmp_path / "models--x--y"
    snapshot = home / "snapshots" / ("b" * 40)
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for name, data in MODEL.items():
        (home / "blobs" / name).write_bytes(data)
        (snapshot / name).symlink_to(home / "blobs" / name)
    assert find_leftovers(tmp_path).files == {}
    free_leftovers(tmp_path)
    assert locate("x/y", tmp_path).external


def test_a_record_that_cannot_be_written_is_one_line(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if "manifests" in Path(target).parts:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FileError, match="No space left on device") as caught:
        pull("o/n:int4", tmp_path)
    assert "free some space" in caught.value.hint
    monkeypatch.undo()
    assert read_manifests(tmp_path) == []
    assert free_leftovers(tmp_path)[0] > len(MODEL[DATA])


def test_other_users_may_read_what_the_mask_allows(hub: Hub, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        pull("o/n:int4", tmp_path)
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_a_removal_frees_what_nobody_else_needs(hub: Hub, tmp_path: Path) -> None:
    """A content that two models share on the disk is freed with the last of them."""
    hub.repos["o/m"] = Repo(dict(MODEL))
    hub.repos["o/k"] = Repo(dict(MODEL))
    pull("o/m", tmp_path)
    pull("o/k", tmp_path)
    one, two = read_manifests(tmp_path)
    assert plan_removal(tmp_path, [one]).freed_bytes == 0
    assert plan_removal(tmp_path, [one, two]).freed_bytes == one.size_bytes
    assert carry_out(tmp_path, [one]).freed_bytes == 0
    assert verify(tmp_path, two).ok
    assert carry_out(tmp_path, [two]).freed_bytes == two.size_bytes
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
