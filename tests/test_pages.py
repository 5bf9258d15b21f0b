"""docs/commands.md and the manual pages follow the commands, and the wheel carries the manual pages."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from make_commands import PAGE
from make_commands import page as commands_page
from make_man import FOLDER
from make_man import pages as man_pages
from make_tables import EXIT_CODES

from lmsupply_cli import errors
from lmsupply_cli.cli import exit
from lmsupply_cli.cli.app import COMMANDS

MAN = sorted(FOLDER.glob("*.1"))
MACROS = {".TH", ".SH", ".SS", ".PP", ".TP", ".EX", ".EE", ".nh", '.\\"'}
ROOT = Path(__file__).parent.parent


def test_the_page_of_commands_is_not_stale() -> None:
    assert PAGE.read_text(encoding="utf-8") == commands_page(), "python tools/make_commands.py"


def test_the_manual_pages_are_not_stale() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in MAN} == man_pages(), "python tools/make_man.py"


def test_every_command_has_a_manual_page() -> None:
    assert {path.stem for path in MAN} == {"lmsupply", *(f"lmsupply-{name}" for name in COMMANDS)}


@pytest.mark.parametrize("path", MAN, ids=lambda path: path.name)
def test_a_manual_page_is_roff(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert {line.split(" ")[0] for line in lines if line.startswith(".")} <= MACROS
    assert not any(line.startswith("'") or not line.isascii() for line in lines)
    sections = [line[4:] for line in lines if line.startswith(".SH ")]
    assert sections[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert sections[-3:] == ["ENVIRONMENT", "EXIT STATUS", "SEE ALSO"]
    assert re.fullmatch(r"lmsupply[\\a-z-]* \\- \S.*", lines[lines.index(".SH NAME") + 1])


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
@pytest.mark.parametrize("path", MAN, ids=lambda path: path.name)
def test_groff_has_no_warning(path: Path) -> None:
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "EXIT STATUS" in re.sub(".\x08", "", done.stdout)  # bold is struck twice


def test_the_wheel_installs_the_manual_pages() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["shared-data"] == {"man": "share/man/man1"}
    assert not {"man", "/man"} & set(build["targets"]["sdist"]["exclude"])


def test_every_exit_code_is_described() -> None:
    codes = {code for code in vars(exit).values() if isinstance(code, int)}
    codes |= {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert codes == set(EXIT_CODES)


def test_the_map_of_the_source_is_the_order_of_imports() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (c["layers"] for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("| Package |")[2]
    rows = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)]
    assert rows[: len(layers)] == [re.findall(r"lmsupply_cli\.(\w+)", layer) for layer in layers]
    assert {name for row in rows[: len(layers)] for name in row} == {
        path.stem
        for path in (ROOT / "lmsupply_cli").iterdir()
        if path.stem not in ("builtin", "py", "worker_child") and not path.stem.startswith("_")
    }


def test_every_message_of_the_troubleshooting_page_exists() -> None:
    """Each piece of a heading between … is in the code, as it is written there."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "lmsupply_cli").rglob("*.py"))
    source = re.sub(r'"\n\s*f?"', "", "\n".join(texts))
    source = source.replace("{CONFIG}", "genai_config.json").replace("{GUIDE_REF}", "guide")
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    shown = [code for head in re.findall(r"^### (.*)$", page, re.MULTILINE) for code in re.findall(r"`([^`]+)`", head)]
    pieces = [piece.strip(" ,") for code in shown for piece in code.split("…")]
    assert len(pieces) >= 20
    assert [piece for piece in pieces if piece not in source] == [], "reword the heading"
