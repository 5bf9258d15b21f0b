"""Imports that a person watches: a real pseudo-terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.cli import lmsupply
from support.hub import Repo, local_hub
from support.terminal import Terminal
from support.tiny_imports import WAITS, repo_files, write_tiny_gguf, write_tiny_safetensors


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tiny_gguf(tmp_path / "one.gguf")
    write_tiny_gguf(tmp_path / "two.gguf", "Q8_0")
    return tmp_path


@pytest.mark.parametrize("columns", [50, 100])
def test_an_import_shows_its_steps_and_leaves_two_lines(here: Path, columns: int) -> None:
    terminal = Terminal("run", "./one.gguf", "hi", "--max-tokens", "1", columns=columns)
    assert terminal.end() == 0
    for label in (b"reading", b"converting"):
        assert label in terminal.raw
        assert label.decode() not in terminal.text
    shown = " ".join(terminal.text.split())
    assert f"importing{here / 'one.gguf'}:exact(" in shown.replace(" ", "")
    assert "imported one: 93.4 kB in " in shown
    assert all(len(line) <= columns for line in terminal.text.splitlines())


def test_a_chat_with_files(here: Path) -> None:
    terminal = Terminal("chat", "./one.gguf", "--max-tokens", "2")
    terminal.shows(">>>")
    assert "imported one: " in terminal.text
    for typed, said in (
        ("/model ./two.gguf", "two on cpu, context 256 tokens."),
        ("/model ./nope.gguf", "error: no such file: ./nope.gguf"),
        ("/model one", "one on cpu, context 256 tokens."),
    ):
        terminal.send(f"{typed}\r")
        terminal.shows(said)
    assert "imported two: " in terminal.text
    terminal.send("hello\r")
    terminal.shows("cut off after 2 tokens")
    terminal.send("\x04")
    assert terminal.end() == 0


def test_a_file_without_a_prompt_opens_a_chat(here: Path) -> None:
    terminal = Terminal("run", "./one.gguf")
    terminal.shows(">>>")
    terminal.send("\x04")
    assert terminal.end() == 0


def test_ctrl_c_while_it_is_imported(here: Path, tmp_path: Path) -> None:
    terminal = Terminal(str(tmp_path), "chat", "./one.gguf", program=(sys.executable, "-c", WAITS))
    terminal.shows("importing")
    while not (tmp_path / "begun").exists():
        assert terminal.process.isalive()
    terminal.send("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert not list(Path(os.environ["LMSUPPLY_HOME"]).glob("cache/.lmsupply/imported/*"))


def test_one_question_for_a_repo_that_is_imported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_hub() as hub:
        hub.repos["a/tiny-GGUF"] = Repo({"tiny-Q4_0.gguf": (here / "one.gguf").read_bytes()}, license="llama3.2")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        terminal = Terminal("run", "-m", "a/tiny-GGUF", "hi", "--max-tokens", "1", columns=100)
        terminal.shows("Pull and accept? [y/N]")
        shown = " ".join(terminal.text.split())
        assert "a/tiny-GGUF: gguf q4_0 (the only GGUF file), downloads 62.7 kB, imported without loss (about " in shown
        looked = len(hub.of("cdn"))  # at the header
        terminal.send("y\r")
        assert terminal.end() == 0
        assert (looked, len(hub.of("cdn")), terminal.text.count("[y/N]")) == (1, 2, 1)
    assert lmsupply("models", "--installed", "-q").out == "guide\na/tiny-GGUF\n"


def test_a_folder_of_safetensors_on_a_narrow_terminal(here: Path) -> None:
    write_tiny_safetensors(here / "tuned")
    terminal = Terminal("add", "tuned", "--dry-run", columns=60)
    assert terminal.end() == 0
    assert all(len(line) <= 60 for line in terminal.text.splitlines())
    assert "int4 (quantized from F32)" in " ".join(terminal.text.split())


@pytest.mark.parametrize(("answer", "code", "models"), [("y", 0, "guide\na/tuned\n"), ("n", 3, "guide\n")])
def test_a_conversion_is_asked_for_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, models: str
) -> None:
    with local_hub() as hub:
        hub.repos["a/tuned"] = Repo(repo_files(write_tiny_safetensors(here / "tuned")), license="llama3.2")
        hub.repos["a/gguf"] = Repo({"x-Q4_0.gguf": (here / "one.gguf").read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        terminal = Terminal("pull", "a/tuned", columns=100)
        terminal.shows("Pull and accept? [y/N]")
        shown = " ".join(terminal.text.split())
        assert "downloads 388 kB, converted to int4 (about 77.5 kB, 75.1 MB in memory), Llama-3.2" in shown
        terminal.send(f"{answer}\r")
        assert (terminal.end(), terminal.text.count("[y/N]")) == (code, 1)
        assert lmsupply("models", "--installed", "-q").out == models
        if answer == "n":
            accepted = Terminal("pull", "a/tuned", "--accept-license", columns=100)
            accepted.shows("Pull it now? [y/N]")
            accepted.send("y\r")
            assert accepted.end() == 0
        for name in ("a/tuned", "a/gguf"):
            plain = Terminal("pull", name)
            assert (plain.end(), "[y/N]" in plain.text) == (0, False)
