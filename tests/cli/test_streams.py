"""Standard streams that are closed, full, or that nobody reads."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lmsupply_cli
from lmsupply_cli.render.sanitize import json_text, one_line, sanitize

COMMANDS = [
    ["run", "-q", "thanks"],
    ["run", "--json", "-q", "thanks"],
    ["run", "--stream-json", "-q", "thanks"],
    ["run", "-m", "guide", "--show-prompt", "hi"],
    ["models"],
    ["hw", "--json"],
    ["config", "list"],
    ["show", "guide"],
    ["licenses"],
    ["verify"],
    ["completion", "bash"],
    ["--help"],
    ["run", "--help"],
    ["--version"],
    [],
]


def run(arguments: list[str], *, shell: str, buffered: bool) -> subprocess.CompletedProcess[str]:
    """With the redirections of `shell`."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    if not buffered:
        environ["PYTHONUNBUFFERED"] = "1"
    command = ["bash", "-c", f'"$0" "$@" {shell}', sys.executable, "-m", "lmsupply_cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, env=environ
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_output_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    for shell, reason in ((">/dev/full", "No space left on device"), (">&-", "it is closed")):
        for buffered in (True, False) if arguments in (["--help"], ["models"]) else (True,):
            done = run(arguments, shell=shell, buffered=buffered)
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1] == f"error: cannot write to standard output: {reason}"
            assert "Traceback" not in done.stderr
            assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("arguments", [["run", "-q", "thanks"], ["run", "thanks"], ["models"]], ids=" ".join)
@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full"])
def test_without_standard_error_the_work_is_done(arguments: list[str], shell: str) -> None:
    done = run(arguments, shell=shell, buffered=True)
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.parametrize("shell", [">&- 2>&-", ">/dev/full 2>/dev/full", "2>/dev/full", ">/dev/full"])
def test_the_reporter_of_errors_never_fails(shell: str) -> None:
    for arguments in (["run", "-m", "nosuch", "hi"], ["run", "--json", "-m", "nosuch", "hi"]):
        done = run(arguments, shell=shell, buffered=True)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = run(["models"], shell="| head -n 1; exit ${PIPESTATUS[0]}", buffered=True)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


@pytest.mark.parametrize("columns", ["1", "2", "11", "20"])
def test_an_error_is_printed_at_any_width(columns: str) -> None:
    from support.terminal import Terminal

    terminal = Terminal("run", "-m", "nosuch", "hi", columns=80, COLUMNS=columns)
    assert terminal.end() == 1
    assert "nosuch" in terminal.text.replace("\n", "")
    assert "Traceback" not in terminal.text


STEERING = "\x1b]0;PWN\x07\x9b31m\u202ex\u2066y\x7f\x00"


def test_nothing_that_steers_is_left() -> None:
    shown = sanitize(f"a\n{STEERING}\tb\r\nc\ud800")
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\x7f", "\x00", "\r", "\ud800"} & set(shown)
    assert shown.startswith("a\n")
    assert "\tb\nc" in shown
    assert one_line("MIT\nnote: all is well\ttoo") == "MIT␤note: all is well too"
    assert sanitize("שלום \u200f(1) 🏴\U000e0067\U000e007f é") == "שלום \u200f(1) 🏴\U000e0067\U000e007f é"


def test_json_escapes_what_steers_and_nothing_else() -> None:
    text = json_text({"a": STEERING + "é漢\ud800"})
    assert text.isprintable()
    assert "é漢" in text
    assert json.loads(text) == {"a": STEERING + "é漢\ud800"}


OUTLETS = {
    "render",
    "__main__.py",
    "cli/app.py",
    "cli/complete.py",
    "cli/completion.py",
    "worker_child.py",
    "serving/model_worker.py",  # its stderr is what WorkerDied quotes
    "engine/genai_warnings.py",
}


def test_one_place_writes_to_the_standard_streams() -> None:
    """Nothing outside of it prints, writes to a standard stream, or makes a console of rich."""
    package = Path(lmsupply_cli.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        if name in OUTLETS or name.split("/")[0] in OUTLETS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "print", "typer.echo", "typer.secho", "Console", "sys.stdout.write", "sys.stderr.write",
                "terminal.stdout.write", "terminal.stderr.write", "self._terminal.stdout.write",
                "self._terminal.stderr.write", "os.write",
            ):  # fmt: skip
                found.append(f"{name}:{node.lineno}")
    assert found == []
