"""Pipes, links and folders in places where files should be: nothing waits for ever, and nothing outside is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.hub import Repo, local_hub

from lmsupply_cli import files
from lmsupply_cli.errors import FileError
from lmsupply_cli.store.leftovers import find_leftovers, free_leftovers
from lmsupply_cli.store.manifest import mark_used
from lmsupply_cli.store.pull import plan_pull, run_pull

if sys.platform == "win32":
    pytest.skip("files of POSIX", allow_module_level=True)

TOY = Path(__file__).parent / "models" / "toy"


def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(FileError, match="not a regular file"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "model.onnx", "notes"])
def test_a_pipe_in_a_model_folder_is_named(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(TOY, tmp_path / "m"))
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    result = lmsupply("run", "-m", folder, "hi")
    assert result.code == 1
    assert f"{name} is not a regular file" in result.err


def test_odd_files_in_the_store_stop_nothing_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("keep")
    store = tmp_path / "store"
    for name in ("manifests", "unfinished", "parts", "locks", "used"):
        folder = store / ".lmsupply" / name
        folder.mkdir(parents=True)
        (folder / "link.json").symlink_to(outside)
        os.mkfifo(folder / "pipe.json")
    assert lmsupply("models", "--installed", "--cache-dir", store).code == 0
    assert lmsupply("rm", "--partial", "-y", "--cache-dir", store).code == 0
    assert (outside / "mine").read_text() == "keep"
    left = find_leftovers(store)
    assert (left.files, left.parts, left.temporary) == ({}, (), ())
    shutil.rmtree(store / ".lmsupply" / "parts", ignore_errors=True)
    (store / ".lmsupply").mkdir(parents=True, exist_ok=True)
    (store / ".lmsupply" / "parts").symlink_to(outside)
    with pytest.raises(FileError, match="is a link"):
        free_leftovers(store)
    assert (outside / "mine").read_text() == "keep"


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    script = f"cd {tmp_path}; mkdir x; cd x; rmdir ../x; exec {sys.executable} -m lmsupply_cli add ./y --alias z"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1
    assert "the current folder no longer exists" in done.stderr


def test_a_store_whose_path_is_no_text_says_so(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    shutil.copytree(TOY, folder)
    result = lmsupply("run", "-m", str(folder), "hi")
    assert result.code == 1
    assert "is not a path in UTF-8" in result.err


@pytest.mark.parametrize("name", ["", "parts", "locks", "manifests", "unfinished", "used"])
def test_nothing_is_written_through_a_link_in_the_place_of_a_folder_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A second model of equal files is put together from copies, which pass through `parts` as well."""
    outside, store = tmp_path / "outside", tmp_path / "store"
    with local_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for ref in ("a/one", "a/two"):
            hub.repos[ref] = Repo({path.name: path.read_bytes() for path in TOY.iterdir()})
        run_pull(plan_pull("a/one", store), store)
        ours = store / ".lmsupply" / name
        if ours.exists():
            shutil.copytree(ours, outside)
            shutil.rmtree(ours)
        else:
            outside.mkdir()
        ours.symlink_to(outside)
        before = snapshot(outside)
        if name == "used":
            run_pull(plan_pull("a/two", store), store)
            mark_used(store, "a")
        else:
            with pytest.raises(FileError, match="is a link"):
                run_pull(plan_pull("a/two", store), store)
        assert snapshot(outside) == before
        find_leftovers(store)
        assert snapshot(outside) == before, "nor by looking"


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in (folder, *folder.rglob("*"))}
