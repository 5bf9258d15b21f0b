"""Color, tables and fields on terminals of different widths."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.cli import lmsupply
from support.terminal import Terminal

MODELS = Path(__file__).parent.parent / "models"
COLOR = re.compile(rb"\x1b\[[0-9;]*m")


def screen(*arguments: str, columns: int = 100, **environ: str) -> Terminal:
    terminal = Terminal(*arguments, columns=columns, rows=50, **environ)
    terminal.end()
    return terminal


def test_an_error_is_red_and_its_hint_has_a_color() -> None:
    raw = screen("run", "-m", "nosuch", "hi", TERM="xterm").raw
    assert b"\x1b[1;31merror:\x1b[0m " in raw
    assert b"\x1b[36mhint:\x1b[0m " in raw


def test_notes_have_a_color_and_statistics_are_dim() -> None:
    raw = screen("run", "--plain", "--stats", "thanks", TERM="xterm").raw
    assert b"\x1b[36mnote:\x1b[0m no model is installed" in raw
    assert re.search(rb"\x1b\[2mdecode .*\x1b\[0m", raw)


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("arguments", [["run", "-m", "nosuch", "hi"], ["models"], ["hw"], ["config", "--all"]])
def test_no_color_where_it_is_not_wanted(arguments: list[str], environ: dict[str, str]) -> None:
    assert not COLOR.search(screen(*arguments, **environ).raw)


def test_a_pipe_has_no_color() -> None:
    assert "\x1b" not in lmsupply("models", TERM="xterm").output + lmsupply("run", "-m", "nosuch", "hi").output


@pytest.mark.parametrize("columns", [1, 2, 11, 12, 13, 40])
def test_an_error_is_printed_at_any_width(columns: int) -> None:
    terminal = Terminal("run", "-m", "nosuch", "hi", columns=300, COLUMNS=str(columns))
    assert terminal.end() in (1, 2)
    assert "error: " in " ".join(terminal.text.split())
    assert "nosuch" in terminal.text
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize("columns", [60, 100, 160])
@pytest.mark.parametrize("arguments", [["models"], ["hw", "--models"], ["config", "list", "--all"], ["licenses"]])
def test_lists_keep_to_the_width_and_say_what_they_hide(arguments: list[str], columns: int) -> None:
    lines = screen(*arguments, columns=columns, TERM="xterm").text.splitlines()
    wide = screen(*arguments, columns=300, TERM="xterm").text.splitlines()
    headers = [line for line in wide if line.isupper()]
    for header in headers:
        shown = next(line for line in lines if line.startswith(header.split("  ")[0] + "  ") and line.isupper())
        missing = [name for name in re.split(r"  +", header) if name not in re.split(r"  +", shown)]
        said = next((line for line in lines if line.startswith("Hidden: ")), "Hidden: .")
        assert re.findall(r"[A-Z][A-Z ]+[A-Z]", said) == missing


def test_hw_fits_one_screen() -> None:
    assert len(screen("hw", columns=80, TERM="xterm").text.splitlines()) <= 24


def test_names_stay_whole_where_it_is_narrow() -> None:
    text = screen("show", "phi-3.5", "--offline", columns=60, TERM="xterm").text
    assert "cpu_and_mobile/cpu-int4-awq-block-128-acc-level-4" in text.replace("\n", "")
    assert "not chosen" in text


def test_an_added_folder_has_a_context_and_its_path_only_when_asked(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    assert lmsupply("add", folder, "--alias", "mine").code == 0
    result = lmsupply("models", "--installed")
    row = next(line for line in result.out.splitlines() if line.startswith("mine "))
    length = lmsupply("show", "mine", "--json").json["context_length"]
    assert f" {length:,} " in row
    assert row.split()[1] == "added"
    assert row.endswith("not stated")
    assert str(folder) not in result.out
    assert str(folder) in lmsupply("models", "--installed", "--paths").out
    assert "license       no license stated" in lmsupply("show", "mine").out


def test_licenses() -> None:
    assert lmsupply("licenses").out.startswith("You haven't accepted any licenses. (Permissive ones don't need it.)\n")


@pytest.mark.parametrize("columns", [40, 59, 60, 100])
@pytest.mark.parametrize("command", [[], ["run"], ["models"]])
def test_help_keeps_to_the_width(command: list[str], columns: int) -> None:
    wide = lmsupply(*command, "--help", COLUMNS="100").out
    narrow = lmsupply(*command, "--help", COLUMNS=str(columns)).out
    lines = [
        line for line in narrow.split("Examples:")[0].splitlines() if not line.lstrip().startswith("-")
    ]  # names of options stay whole
    assert max(map(len, lines)) <= columns
    assert sorted(re.findall(r"--[a-z-]+", narrow)) == sorted(re.findall(r"--[a-z-]+", wide))
