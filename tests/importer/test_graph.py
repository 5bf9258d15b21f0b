"""The streaming ONNX writer: what it writes is what onnx reads, piece by piece and in little memory."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lmsupply_cli.errors import FileError
from lmsupply_cli.importer.graph import DATA, MODEL, Graph


def idle(_: int) -> None:
    return None


def read(folder: Path) -> dict[str, np.ndarray]:
    model = onnx.load(folder / MODEL)
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_pieces_of_several_regions_in_turn(tmp_path: Path) -> None:
    graph, rng = Graph("test"), np.random.default_rng(0)
    rows = rng.integers(0, 256, (7, 400), dtype=np.uint8)
    floats = rng.normal(size=(7, 90)).astype(np.float32)
    codes = graph.stored("codes", "uint8", rows.shape)
    scales = graph.stored("scales", "float32", floats.shape)
    columns = graph.stored("columns", "float16", floats.T.shape)

    def fill(progress: object) -> None:
        for start, stop in ((0, 3), (3, 4), (4, 7)):
            codes.write(rows[start:stop])
            columns.write_columns(floats[start:stop])
            scales.write(floats[start:stop])

    graph.later(fill)
    graph.alias("blocks", codes, (7, 4, 100))
    graph.constant("small", floats[0])
    graph.constant("large", floats)
    graph.write(tmp_path, idle)
    found = read(tmp_path)
    assert np.array_equal(found["codes"], rows)
    assert np.array_equal(found["blocks"], rows.reshape(7, 4, 100))
    assert np.array_equal(found["scales"], floats)
    assert np.array_equal(found["columns"], floats.T.astype(np.float16))
    assert np.array_equal(found["small"], floats[0])
    assert np.array_equal(found["large"], floats)
    assert (tmp_path / DATA).stat().st_size == graph.data_bytes
    assert (tmp_path / MODEL).stat().st_size == graph.model_bytes


def test_what_is_larger_than_a_kilobyte_lies_aligned_beside_the_model(tmp_path: Path) -> None:
    graph = Graph("test")
    for name, size in (("a", 256), ("b", 257), ("c", 300), ("d", 100_000), ("e", 100_000)):
        graph.constant(name, np.ones(size, np.float32))
    graph.write(tmp_path, idle)
    found = {each.name: each for each in onnx.load(tmp_path / MODEL, load_external_data=False).graph.initializer}
    offsets = {
        name: int(next(entry.value for entry in each.external_data if entry.key == "offset"))
        for name, each in found.items()
        if each.external_data
    }
    assert set(offsets) == {"b", "c", "d", "e"}
    assert [offsets[name] % 64 for name in "bc"] == [0, 0]
    assert [offsets[name] % 65536 for name in "de"] == [0, 0]


def test_a_constant_is_stored_once(tmp_path: Path) -> None:
    graph = Graph("test")
    assert graph.ints(1, 2) == graph.ints(1, 2)
    assert graph.scalar(0.5) == graph.scalar(0.5)
    graph.write(tmp_path, idle)
    assert len(read(tmp_path)) == 2


def test_two_initializers_of_one_name_are_a_mistake() -> None:
    graph = Graph("test")
    graph.stored("weight", "float32", (1000,))
    with pytest.raises(RuntimeError, match="weight"):
        graph.stored("weight", "float32", (1000,))


@pytest.mark.parametrize("rows", [1, 3])
def test_a_region_that_is_not_filled_exactly_is_a_mistake(rows: int, tmp_path: Path) -> None:
    graph = Graph("test")
    region = graph.stored("weight", "float32", (2, 400))
    graph.later(lambda _: region.write(np.zeros((rows, 400))))
    with pytest.raises(RuntimeError):
        graph.write(tmp_path, idle)


def test_progress_is_told_in_the_thread_that_writes(tmp_path: Path) -> None:
    graph = Graph("test")
    told: list[tuple[int, int]] = []
    for size in (1, 20, 300):
        graph.later(lambda progress, size=size: [progress(size), progress(size)])
    graph.write(tmp_path, lambda read_bytes: told.append((read_bytes, threading.get_ident())))
    assert sum(read_bytes for read_bytes, _ in told) == 642
    assert {thread for _, thread in told} == {threading.get_ident()}


def test_the_error_of_a_job_ends_the_others(tmp_path: Path) -> None:
    graph = Graph("test")
    begun: list[int] = []

    def endless(progress: object) -> None:
        begun.append(1)
        while True:
            progress(1)

    def fails(_: object) -> None:
        raise FileError("the source is gone")

    graph.later(endless)
    graph.later(fails)
    for _ in range(20):
        graph.later(endless)
    with pytest.raises(FileError, match="the source is gone"):
        graph.write(tmp_path, idle)
    assert len(begun) < 20


def test_an_interrupt_in_progress_ends_the_jobs(tmp_path: Path) -> None:
    graph = Graph("test")

    def endless(progress: object) -> None:
        while True:
            progress(1)

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    graph.later(endless)
    with pytest.raises(KeyboardInterrupt):
        graph.write(tmp_path, interrupted)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("import")]


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing"):
        Graph("test").write(tmp_path / "missing", idle)


def test_memory_stays_small(tmp_path: Path) -> None:
    """Eight weights of 40 MB, written in pieces of 4 MB."""
    graph = Graph("test")
    for number in range(8):
        region = graph.stored(f"weight.{number}", "float32", (1000, 10_000))

        def fill(progress: object, region: object = region) -> None:
            for _ in range(10):
                region.write(np.ones((100, 10_000), np.float32))

        graph.later(fill)
    tracemalloc.start()
    try:
        graph.write(tmp_path, idle)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
    assert (tmp_path / DATA).stat().st_size > 320_000_000
