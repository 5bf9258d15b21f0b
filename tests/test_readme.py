"""The README cannot rot: its commands are run, its Python is run, its table is generated."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from make_tables import with_tables

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", README, re.DOTALL)


def sessions() -> list[tuple[str, str]]:
    """(command, what it prints) of every console block."""
    found = []
    for block in CONSOLE:
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = piece.partition("\n")
            found.append((command, output))
    return found


@pytest.mark.parametrize(("command", "output"), sessions())
def test_a_command_prints_what_is_shown(command: str, output: str, tmp_path: Path) -> None:
    """stderr, then stdout, as a person sees them; … stands for what depends on the machine."""
    (tmp_path / "lmsupply").write_text(f'#!/bin/sh\nexec {sys.executable} -m lmsupply_cli "$@"\n')
    (tmp_path / "lmsupply").chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ, check=False
    )
    pattern = re.escape(output).replace("…", ".*")
    assert re.fullmatch(pattern, done.stderr + done.stdout), done.stderr + done.stdout


@pytest.mark.parametrize(("program", "output"), PYTHON)
def test_the_python_prints_what_is_shown(program: str, output: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (output, "")


def test_something_is_checked() -> None:
    assert len(sessions()) >= 5
    assert len(PYTHON) == 3


def test_the_tables_are_not_stale() -> None:
    assert with_tables(README) == README


def test_the_two_commands_are_the_ones_that_ci_runs() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert commands == [
        'python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/lmsupply run "How do I download a model?"',
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest -n auto",
    ]
    ci = (Path(__file__).parent.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in ci
