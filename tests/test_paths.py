"""Where things are kept, also where there is no place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Result

from lmsupply_cli import paths
from lmsupply_cli.errors import FileError, SettingsError
from lmsupply_cli.files import NO_HOME, our_io_error

# a user id that no passwd entry names
HOMELESS = """
import pwd, sys
def unknown(*_):
    raise KeyError("uid not found")
pwd.getpwuid = unknown
from lmsupply_cli.__main__ import main
sys.exit(main())
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="folders are elsewhere there")


def homeless(*arguments: str, **environ: str) -> Result:
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "LMSUPPLY_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=env | {"HF_HUB_OFFLINE": "1"} | environ,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("home", [{}, {"HOME": ""}])
def test_without_a_home_the_guide_answers(home: dict[str, str]) -> None:
    result = homeless("run", "-q", "thanks", **home)
    assert result.code == 0
    assert result.out.strip()


@pytest.mark.parametrize("command", [["models"], ["hw"], ["config"], ["config", "path"], ["licenses"], ["verify"]])
def test_without_a_home_what_only_looks_works(command: list[str]) -> None:
    result = homeless(*command)
    assert result.code == 0
    assert "Traceback" not in result.err


def test_without_a_home_a_file_of_ours_has_no_place() -> None:
    result = homeless("config", "set", "top_k", "3")
    assert result.code == 1
    assert result.err == (
        "error: no home folder is known, so there is nowhere to write\nhint: set HOME or LMSUPPLY_HOME\n"
    )
    assert "set HOME or LMSUPPLY_HOME" in homeless("hw").out


def test_without_a_home_a_program_has_the_guide() -> None:
    code = HOMELESS.split("from lmsupply_cli")[0] + (
        "import lmsupply_cli\n"
        "with lmsupply_cli.load('guide') as model: print(model.generate('thanks').text)\n"
        "print([m.ref for m in lmsupply_cli.ModelStore().list()])\n"
    )
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "LMSUPPLY_HOME")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_can_be_written_where_no_home_is() -> None:
    with (
        pytest.raises(FileError, match="no home folder is known"),
        our_io_error(NO_HOME / "state" / "x"),
    ):
        (NO_HOME / "state").mkdir(parents=True)


@pytest.mark.parametrize("name", ["LMSUPPLY_HOME", "LMSUPPLY_CACHE_DIR", "HF_HUB_CACHE", "HF_HOME"])
def test_a_variable_is_made_a_whole_path_or_named(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LMSUPPLY_HOME")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "here")
    assert tmp_path / "here" in (paths.store_root(), *paths.store_root().parents)
    monkeypatch.setenv(name, "~no-such-user/x")
    with pytest.raises(SettingsError, match=f"^{name}: the home folder of '~no-such-user/x' is not known"):
        paths.store_root()
    assert paths.hugging_face_cache().name in ("hub", NO_HOME.name)
    monkeypatch.setenv(name, " ")
    assert paths.store_root() == Path.home() / ".cache" / "lmsupply" / "hub"


def test_a_current_folder_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setenv("LMSUPPLY_HOME", "here")
    gone.rmdir()
    with pytest.raises(SettingsError, match="LMSUPPLY_HOME: 'here' is in the current folder, which is gone"):
        paths.config_dir()


@pytest.mark.parametrize("value", ["relative", "~no-such-user"])
def test_a_relative_xdg_folder_counts_as_not_set(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMSUPPLY_HOME")
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, value)
    assert paths.config_dir() == Path.home() / ".config" / "lmsupply"
    assert paths.hugging_face_cache() == Path.home() / ".cache" / "huggingface" / "hub"


def test_a_cache_dir_from_a_program_is_checked() -> None:
    with pytest.raises(SettingsError, match="cache_dir: not a folder"):
        paths.store_root("a\0b")
