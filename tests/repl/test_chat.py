"""The chat in a real pseudo-terminal: what is typed, and what the screen shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.chat import Chat
from support.terminal import Terminal

from lmsupply_cli import paths

MODELS = Path(__file__).parent.parent / "models"
SLOW = str(MODELS / "slow")
COUNT = ("--temperature", "0", "--min-length", "150", "--max-tokens", "150")  # some seconds of printable characters
DOWNLOAD = "How do I download a model?"


# the model


def test_what_a_chat_knows_of_its_models(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in Path(SLOW).iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.onnx").write_bytes((broken / "model.onnx").read_bytes()[:-20])
    chat = Chat("guide", "--temperature", "0", "--max-tokens", "5", columns=120)
    assert "license MIT (permissive)" in chat.ask("/show")
    assert "MIT" in chat.ask("/show license")
    assert "<|im_start|>" in chat.ask("/show template")
    assert "guide" in chat.ask("/models")
    assert "error: " in chat.ask("/model no-such-model")
    assert "error:" in chat.ask(f"/model {broken}")
    chat.ask("hello")
    shown = chat.ask(f"/model {SLOW}")
    assert "on cpu, context" in shown
    assert "tokens will be reprocessed." in shown
    assert "hello" in chat.ask("/show prompt")
    assert "guide on cpu, context" in chat.ask("/model guide")
    chat.leave()


def test_regen_reads_next_to_nothing_again() -> None:
    chat = Chat("guide", "--stats", "--temperature", "0")
    first, again = chat.ask(DOWNLOAD), chat.ask("/regen")
    assert "works offline." in first
    assert "works offline." in again
    total, cached = (int(n) for n in re.findall(r"(\d+) prompt tokens \((\d+) cached", again)[0])
    assert total - cached == 4
    chat.leave()


# interrupts


def interrupted_while_loading() -> Terminal | None:
    """None where the test was too slow: the chat was there already, and said what leaves it."""
    terminal = Terminal("chat", "guide", PYTHONPROFILEIMPORTTIME="1")
    terminal.shows("lmsupply_cli.cli")  # before that, Python itself is interrupted
    terminal.send("\x03")
    try:
        terminal.shows("/bye quits")
    except AssertionError:
        return terminal
    terminal.process.close(force=True)
    return None


def test_ctrl_c_while_the_model_loads_ends_the_program() -> None:
    terminal = next(filter(None, (interrupted_while_loading() for _ in range(5))))
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text


def test_a_stopped_answer_stays_marked_and_the_next_message_works() -> None:
    chat = Chat(SLOW, *COUNT)
    chat.send("hello\r")
    chat.shows("ABCDE")
    chat.send("\x03")
    chat.shows("(stopped; partial answer kept)")
    chat.ready(2)
    chat.ask("/set parameter min_length 0")
    chat.ask("/set parameter max_tokens 3")
    chat.ask("x")
    name = paths.sessions_dir()
    chat.leave()
    rows = [json.loads(line) for line in max(name.glob("*.jsonl"), key=os.path.getmtime).read_text().splitlines()]
    answers = [row for row in rows if row.get("role") == "assistant"]
    assert answers[0]["partial"] is True
    assert answers[0]["content"].startswith("ABC") or "ABCDE" in answers[0]["content"]


def test_ctrl_c_as_soon_as_the_message_is_sent() -> None:
    chat = Chat(SLOW, *COUNT)
    chat.shows("/256 tokens")
    chat.send("word " * 20 + "\r")
    chat.read(lambda text: "/256 tokens" not in text)  # the bar goes: the message is being read
    chat.send("\x03")
    chat.shows("(stopped")
    chat.ready(2)
    assert "context" in chat.ask("/show info")
    assert "Traceback" not in chat.text
    chat.leave()


# keys while the model works


def test_what_is_typed_while_it_answers_waits_for_the_next_prompt() -> None:
    chat = Chat(SLOW, *COUNT)
    chat.send("hello\r")
    chat.shows("ABCDE")
    chat.send("/show system\r/bar")
    chat.shows("(cut off after 150 tokens")
    chat.read(lambda text: "There is no system prompt." in text and text.rstrip().count(">>> /bar") == 1)
    answer = chat.text.split("(cut off after")[0]
    assert "/show" not in answer
    assert answer.count("ABCDEFGHIJ") == 1, "no line was drawn twice"
    chat.send("\x03")
    chat.leave()


def test_ctrl_d_while_it_answers_quits_after_it() -> None:
    chat = Chat(SLOW, *COUNT)
    chat.send("hello\r")
    chat.shows("ABCDE")
    chat.send("\x04")
    assert chat.end() == 0
    assert "(cut off after 150 tokens" in chat.text
    assert chat.text.endswith("Bye.")


def test_ctrl_z_suspends_at_the_prompt_and_in_an_answer() -> None:
    command = [sys.executable, "-m", "lmsupply_cli", "chat", SLOW, *COUNT]
    shell = Terminal(program=["bash", "--norc", "--noprofile", "-i"], PS1="$ ", columns=120, rows=60)
    shell.send(shlex.join(command) + "\r")
    shell.shows(">>>")
    shell.send("\x1a")
    shell.shows("Stopped")
    shell.send("fg\r")
    shell.read(lambda text: text.split("Stopped")[1].count(">>>") >= 1)
    shell.send("hello\r")
    shell.shows("ABCDE")
    shell.send("\x1a")
    shell.read(lambda text: text.count("Stopped") == 2)
    shell.send("echo is-$((1+1)) on\r")
    shell.read(lambda text: "$ echo is-$((1+1)) on" in text and "is-2 on" in text)
    shell.send("fg\r")
    shell.shows("(cut off after 150 tokens")
    shell.send("typed")
    shell.shows(">>> typed")
    shell.send("\x03\x04")
    shell.shows("Bye.")
    shell.send("exit\r")
    shell.end()
    assert "Traceback" not in shell.text


def test_without_a_terminal_it_points_to_run() -> None:
    from support.cli import lmsupply

    result = lmsupply("chat", "guide", stdin="hello\n")
    assert result.code == 2
    assert "lmsupply run" in result.err
