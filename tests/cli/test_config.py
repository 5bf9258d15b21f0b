"""`lmsupply config` over the settings table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import lmsupply

from lmsupply_cli.config.table import SETTINGS


def file() -> Path:
    return Path(os.environ["LMSUPPLY_HOME"]) / "config" / "config.toml"


def test_list_shows_each_value_with_its_source() -> None:
    lmsupply("config", "set", "top_k", "7")
    found = lmsupply("config", "list", "--json", LMSUPPLY_TOP_P="0.3").json
    assert set(found["settings"]) == set(SETTINGS)
    assert found["settings"]["top_k"] == {"value": 7, "source": "file"}
    assert found["settings"]["top_p"] == {"value": 0.3, "source": "env"}
    assert found["settings"]["max_tokens"] == {"value": 512, "source": "default"}
    lines = lmsupply("config", LMSUPPLY_TOP_P="0.3").out.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        ["SETTING", "VALUE", "SOURCE"], ["top_p", "0.3", "env"], ["top_k", "7", "file"],
    ]  # fmt: skip
    assert lines[-2:] == [
        f"{len(SETTINGS) - 2} others have their defaults. Show them: lmsupply config list --all.",
        f"Settings file: {file()}",
    ]
    every = lmsupply("config", "--all").out.splitlines()
    assert [line.split()[0] for line in every[1:-1]] == ["top_k", *(key for key in SETTINGS if key != "top_k")]


def test_nothing_is_set() -> None:
    assert lmsupply("config").out.startswith(f"All {len(SETTINGS)} settings have their defaults.")


@pytest.mark.parametrize(
    ("key", "values", "shown", "written"),
    [
        ("top_k", ["7"], "7", "top_k = 7"),
        ("temperature", ["0"], "0.0", "temperature = 0.0"),
        ("do_sample", ["off"], "off", "do_sample = false"),
        ("stop", ["END", "a, b"], "END, a, b", 'stop = ["END", "a, b"]'),
        ("default_model", ["phi-3.5"], "phi-3.5", 'default_model = "phi-3.5"'),
        ("cache_dir", ['a "b" \\ ü'], 'a "b" \\ ü', 'cache_dir = "a \\"b\\" \\\\ ü"'),
    ],
)
def test_set_get_unset(key: str, values: list[str], shown: str, written: str) -> None:
    assert lmsupply("config", "set", key, *values).code == 0
    assert file().read_text(encoding="utf-8") == written + "\n"
    assert lmsupply("config", "get", key).out == shown + "\n"
    assert lmsupply("config", "unset", key).code == 0
    assert file().read_text() == ""
    assert "was not set" in lmsupply("config", "unset", key).err


def test_the_rest_of_the_file_stays() -> None:
    file().parent.mkdir(parents=True)
    file().write_text('# mine\ntop_k = 5 # five\n\nstop = [\n  "a",\n  "b",\n]\n# end\nseed = 1')
    lmsupply("config", "set", "top_k", "6")
    lmsupply("config", "set", "stop", "x")
    lmsupply("config", "set", "min_p", "0.1")
    assert file().read_text() == '# mine\ntop_k = 6\n\nstop = ["x"]\n# end\nseed = 1\nmin_p = 0.1\n'
    lmsupply("config", "unset", "stop")
    assert file().read_text() == "# mine\ntop_k = 6\n\n# end\nseed = 1\nmin_p = 0.1\n"


def test_a_file_from_a_windows_editor_keeps_its_ends_of_lines() -> None:
    file().parent.mkdir(parents=True)
    file().write_bytes(b"\xef\xbb\xbftop_k = 5\r\n# mine\xe2\x80\xa8too\r\nseed = 1\r\n")
    assert lmsupply("config", "get", "top_k").out == "5\n"
    lmsupply("config", "set", "top_k", "6")
    lmsupply("config", "set", "min_p", "0.1")
    lmsupply("config", "unset", "seed")
    assert file().read_bytes() == b"top_k = 6\r\n# mine\xe2\x80\xa8too\r\nmin_p = 0.1\r\n"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_linked_file_stays_linked(tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.toml"
    kept.write_text("seed = 1\n")
    kept.chmod(0o600)
    file().parent.mkdir(parents=True)
    file().symlink_to(kept)
    lmsupply("config", "set", "seed", "2")
    assert file().is_symlink()
    assert kept.read_text() == "seed = 2\n"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_what_the_environment_shadows_is_said() -> None:
    said = lmsupply("config", "set", "top_k", "7", LMSUPPLY_TOP_K="3").err
    assert "LMSUPPLY_TOP_K is set in the environment and takes precedence" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], "unknown action 'frob'"),
        (["get"], "usage: lmsupply config get KEY"),
        (["set", "top_k"], "usage: lmsupply config set KEY VALUE"),
        (["list", "top_k"], "usage: lmsupply config list"),
        (["get", "tpo_k"], "unknown setting 'tpo_k'"),
        (["set", "top_k", "many"], "top_k must be a whole number"),
        (["set", "top_k", "1", "2"], "top_k takes one value"),
        (["set", "provider", "gpu"], "one of auto, cpu, cuda, dml, webgpu"),
        (["edit"], "no editor set"),
    ],
)
def test_mistakes(arguments: list[str], said: str) -> None:
    result = lmsupply("config", *arguments, VISUAL="", EDITOR="")
    assert result.code == 2
    assert said in result.err
    assert not file().exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["edit", "--json"], "--json and edit can't be combined"),
        (["get", "top_k", "--all"], "--all and get can't be combined"),
        (["set", "top_k", "3", "--all"], "--all and set can't be combined"),
    ],
)
def test_an_option_that_an_action_does_not_have_is_refused(arguments: list[str], said: str) -> None:
    result = lmsupply("config", *arguments, EDITOR="true", VISUAL="")
    assert result.code == 2
    assert said in result.err
    assert not file().exists()


def test_changes_are_reported_in_json() -> None:
    done = lmsupply("config", "set", "top_k", "3", "--json", LMSUPPLY_TOP_K="5")
    assert done.code == 0
    note = "LMSUPPLY_TOP_K is set in the environment and takes precedence"
    assert done.json == {
        "schema": 2,
        "key": "top_k",
        "value": 3,
        "file": str(file()),
        "notices": [{"code": "environment", "text": note}],
    }
    assert done.err == f"note: {note}\n"
    for _ in ("it is set", "it is not"):
        done = lmsupply("config", "unset", "top_k", "--json")
        assert done.json == {"schema": 2, "key": "top_k", "value": None, "file": str(file()), "notices": []}
        assert done.err == ""
    file().write_text("top_q = 2\n")
    assert "unknown setting 'top_q'" in lmsupply("config", "set", "top_k", "3", "--json").json["notices"][0]["text"]


BROKEN = """\
top_k = 1
top_q = 2
seed = = 3
stop = [
  "a",
min_p = 0.1
# mine
"""


def broken() -> None:
    file().parent.mkdir(parents=True)
    file().write_text(BROKEN)


@pytest.mark.parametrize("command", [["run", "thanks"], ["pull", "phi-3.5"], ["verify"], ["show", "guide"]])
def test_a_setting_that_cannot_be_read_ends_what_it_might_change(command: list[str]) -> None:
    broken()
    result = lmsupply(*command)
    assert result.code == 2
    assert f"{file()}:2: unknown setting 'top_q'" in result.err
    assert "lmsupply config unset top_q" in result.err
    assert file().read_text() == BROKEN


@pytest.mark.parametrize("command", [["models"], ["config"], ["config", "get", "top_k"]])
def test_what_only_looks_goes_on_and_says_what_it_left_out(command: list[str]) -> None:
    broken()
    result = lmsupply(*command, LMSUPPLY_TEMPERATURE="hot")
    assert result.code == 0
    for place in (f"{file()}:2:", f"{file()}:3:", f"{file()}:4:", "LMSUPPLY_TEMPERATURE:"):
        assert f"note: skipped: {place}" in result.err


def test_a_file_that_is_no_toml_does_not_stop_what_only_looks() -> None:
    file().parent.mkdir(parents=True)
    file().write_text("temp eratu]\n")
    for command in (["hw"], ["models"], ["config", "list"], ["config", "list", "--json"]):
        result = lmsupply(*command)
        assert result.code == 0
        assert f"skipped: {file()}:1: " in result.output


def test_hw_names_what_it_left_out() -> None:
    broken()
    result = lmsupply("hw", "--json")
    assert result.code == 0
    assert [note for note in result.json["notes"] if note.startswith(f"skipped: {file()}:2: unknown setting")]


def test_config_puts_a_broken_file_right() -> None:
    broken()
    assert lmsupply("config", "set", "top_k", "3").code == 0
    for key in ("top_q", "seed", "stop"):
        assert lmsupply("config", "unset", key).code == 0
    assert file().read_text() == "top_k = 3\nmin_p = 0.1\n# mine\n"
    assert lmsupply("config", "unset", "top_q").code == 2
    assert lmsupply("config", "list").err == ""


def test_a_setting_goes_before_a_table() -> None:
    file().parent.mkdir(parents=True)
    file().write_text("[mine]\ntop_k = 1\n")
    lmsupply("config", "set", "top_k", "3")
    assert file().read_text() == "top_k = 3\n[mine]\ntop_k = 1\n"


def test_settings_that_are_changed_at_once_are_all_kept() -> None:
    keys = ["top_k", "seed", "max_tokens", "min_length", "threads", "context", "draft_tokens", "num_beams"]
    changes = [
        subprocess.Popen([sys.executable, "-m", "lmsupply_cli", "config", "set", key, "5"], stderr=subprocess.PIPE)
        for key in keys
    ]
    for change in changes:
        _, said = change.communicate(timeout=120)
        assert change.returncode == 0, said
    assert sorted(file().read_text().splitlines()) == sorted(f"{key} = 5" for key in keys)


@pytest.mark.parametrize("name", ["LMSUPPLY_HOME", "LMSUPPLY_CACHE_DIR"])
def test_a_variable_that_is_no_folder_is_named(name: str) -> None:
    result = lmsupply("run", "thanks", **{name: "~no-such-user/x"})
    assert result.code == 2
    assert result.err.startswith(f"error: {name}: ")
    assert "the home folder of '~no-such-user/x' is not known" in result.err


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("8", "did you mean 8GB?"),
        ("9" * 400, "is more than any machine has"),
        ("1e999", "not a size"),
        ("nan", "not a size"),
        ("-1", "not a size"),
        ("0", "0 bytes of memory is too little"),
    ],
)
def test_a_memory_limit_that_cannot_be_meant(value: str, said: str) -> None:
    for arguments in (["config", "set", "memory_limit", "--", value], ["run", f"--memory-limit={value}", "thanks"]):
        result = lmsupply(*arguments)
        assert result.code == 2
        assert said in result.err
    result = lmsupply("run", "thanks", LMSUPPLY_MEMORY_LIMIT=value)
    assert result.code == 2
    assert "LMSUPPLY_MEMORY_LIMIT: memory_limit: " in result.err


def test_a_settings_file_that_cannot_be_written_is_one_line() -> None:
    file().parent.parent.mkdir(parents=True)
    file().parent.write_text("a file where the folder should be")
    for arguments in (["set", "top_k", "3"], ["unset", "top_k"], ["edit"]):
        result = lmsupply("config", *arguments, EDITOR="true", VISUAL="")
        assert result.code == 1
        assert result.err.startswith("error: cannot write ")
    assert lmsupply("run", "thanks").code == 0


def test_path_and_edit(tmp_path: Path) -> None:
    assert lmsupply("config", "path").out == f"{file()}\n"
    editor = tmp_path / "my editor"
    editor.write_text("#!/bin/sh\necho 'top_k = 9' > \"$1\"\n")
    editor.chmod(0o755)
    assert lmsupply("config", "edit", EDITOR=f"'{editor}'", VISUAL="").code == 0
    assert lmsupply("config", "get", "top_k").out == "9\n"
    assert lmsupply("config", "edit", EDITOR="touch", VISUAL="").err == f"nothing changed in {file()}\n"
    editor.write_text("#!/bin/sh\necho 'top_k = x' > \"$1\"\n")
    assert lmsupply("config", "edit", EDITOR=f"'{editor}'", VISUAL="").code == 2
