"""Pulling where a person can be asked and can watch: a real pseudo-terminal and a Hub on this machine."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.cli import lmsupply
from support.hub import Fault, Hub, Repo, local_hub
from support.terminal import Terminal

MODELS = Path(__file__).parent.parent / "models"
PHI = "microsoft/Phi-3.5-mini-instruct-onnx"
CPU = "cpu_and_mobile/cpu-int4-awq-block-128-acc-level-4"
LLAMA = "onnx-community/Llama-3.2-1B-Instruct-GENAI-ONNX"


def files(folder: str, model: str, extra: int = 0) -> dict[str, bytes]:
    found = {f"{folder}/{path.name}": path.read_bytes() for path in (MODELS / model).iterdir()}
    found[f"{folder}/model.onnx.data"] += random.Random(2).randbytes(extra)
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos[PHI] = Repo(files(CPU, "phi3"))
        hub.repos[LLAMA] = Repo(files("cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4", "llama"), license="llama3.2")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_chat_with_a_missing_model_asks_pulls_and_answers(hub: Hub) -> None:
    terminal = Terminal("chat", "phi-3.5", "--max-tokens", "3")
    terminal.shows("Pull it now? [y/N]")
    shown = " ".join(terminal.text.split())
    assert "(CPU build, int4, the only match), 83.2 kB, MIT (permissive)" in shown
    assert hub.of("cdn") == [], "nothing is fetched before the answer"
    terminal.send("y\r")
    terminal.shows(">>>")
    terminal.send("hello\r")
    terminal.shows("cut off after 3 tokens")
    terminal.send("\x04")
    assert terminal.end() == 0
    assert lmsupply("run", "phi-3.5", "--show-prompt", "hello").out == "<|user|>\nhello<|end|>\n<|assistant|>\n"


@pytest.mark.parametrize("answer", ["n\r", "\r", "\x04", "\x03"])
def test_no_is_no(hub: Hub, answer: str) -> None:
    terminal = Terminal("run", "-m", "phi-3.5", "hello")
    terminal.shows("Pull it now? [y/N]")
    terminal.send(answer)
    assert terminal.end() == (130 if answer == "\x03" else 3)
    assert hub.of("cdn") == []
    assert "Traceback" not in terminal.text
    assert "hint" not in terminal.text, "nothing suggests what was just refused"


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 3)])
def test_one_question_for_the_download_and_the_license(hub: Hub, answer: str, code: int) -> None:
    terminal = Terminal("run", "-m", "llama-3.2-1b", "--max-tokens", "1", "hello", columns=100)
    terminal.shows("Pull and accept? [y/N]")
    before = " ".join(terminal.text.split())
    for text in ("llama-3.2-1b: cpu_and_mobile/", "Llama-3.2 (conditional)", "https://www.llama.com/"):
        assert text in before
    terminal.send(f"{answer}\r")
    assert terminal.end() == code
    assert terminal.text.count("[y/N]") == 1
    rows = lmsupply("licenses", "--json").json["accepted"]
    assert [row["ref"] for row in rows] == (["llama-3.2-1b"] if answer == "y" else [])
    assert ("llama-3.2-1b was not pulled" in terminal.text) == (answer == "n")


def test_a_quiet_question_says_what_it_is_about(hub: Hub) -> None:
    terminal = Terminal("run", "-q", "-m", "phi-3.5", "hello", columns=100)
    terminal.shows("Pull it now? [y/N]")
    assert "phi-3.5: cpu_and_mobile/" in " ".join(terminal.text.split())
    terminal.send("n\r")
    assert terminal.end() == 3


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 5)])
def test_a_license_is_asked_for_once(hub: Hub, answer: str, code: int) -> None:
    terminal = Terminal("pull", "llama-3.2-1b", columns=70)
    terminal.shows("Accept the license and download? [y/N]")
    assert "show “Built with Llama”" in " ".join(terminal.text.split())
    assert "https://www.llama.com/llama3_2/license/" in terminal.text
    terminal.send(f"{answer}\r")
    assert terminal.end() == code
    rows = lmsupply("licenses", "--json").json["accepted"]
    assert [row["ref"] for row in rows] == (["llama-3.2-1b"] if answer == "y" else [])
    if answer == "y":
        assert lmsupply("rm", "-y", "llama-3.2-1b").code == 0
        again = Terminal("pull", "llama-3.2-1b")
        assert again.end() == 0
        assert "[y/N]" not in again.text


@pytest.mark.parametrize("columns", [50, 100])
def test_bars_while_it_pulls_and_nothing_left_of_them(hub: Hub, columns: int) -> None:
    hub.repos[PHI] = Repo(files(CPU, "phi3", extra=2_000_000))
    hub.faults = [Fault("cdn", "stall", "model.onnx.data", after=1_000_000, silent_s=1)]
    terminal = Terminal("pull", "phi-3.5", columns=columns)
    terminal.shows("all files")
    assert terminal.end() == 0
    assert "all files" not in terminal.text
    assert "phi-3.5 installed: 2.1 MB in" in " ".join(terminal.text.split())
    assert all(len(line) <= columns for line in terminal.text.splitlines())


def test_rm_asks(hub: Hub) -> None:
    lmsupply("pull", "-q", "phi-3.5")
    terminal = Terminal("rm", "phi-3.5")
    terminal.shows("Free 83.2 kB? [y/N]")
    terminal.send("n\r")
    assert terminal.end() == 0
    assert "nothing was removed" in terminal.text
    terminal = Terminal("rm", "phi-3.5")
    terminal.shows("[y/N]")
    terminal.send("y\r")
    assert terminal.end() == 0
    assert not list((Path(os.environ["LMSUPPLY_HOME"]) / "cache").glob("models--*"))
