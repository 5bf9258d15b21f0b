"""The line that is typed, and screens of every kind, in a real pseudo-terminal."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.chat import Chat

from lmsupply_cli import paths

MODELS = Path(__file__).parent.parent / "models"
SLOW, TOY = str(MODELS / "slow"), str(MODELS / "toy")
COUNT = ("--temperature", "0", "--min-length", "150", "--max-tokens", "150")  # some seconds of printable characters
DOWNLOAD = "How do I download a model?"
LIST = "How do I list my models?"


# the line


def test_triple_quotes_make_a_block() -> None:
    chat = Chat("guide")
    chat.send('"""\rfirst line\r\rlast line')
    chat.shows("last line")
    assert chat.text.count(">>>") == 1
    shown = chat.ask('\r"""')
    assert shown
    chat.ready(2)
    prompt = chat.ask("/show prompt")
    assert '"""' not in prompt.split("user")[1].split("assistant")[0]
    assert "first line last line" in prompt
    chat.leave()


def test_alt_enter_makes_a_line() -> None:
    chat = Chat("guide")
    chat.ask("first\x1b\rsecond")
    assert "first second" in chat.ask("/show prompt")
    chat.leave()


def test_a_pasted_block_of_500_lines_is_one_message() -> None:
    chat = Chat("guide", "--context", "300")
    block = "\n".join(f"line {n}" for n in range(500))
    chat.send(f"\x1b[200~{block}\x1b[201~")
    chat.shows("line 499")
    chat.ask("")
    assert "the context has 300" in " ".join(chat.text.split())
    assert "guide" in chat.ask("hello")
    chat.leave()


def test_ctrl_g_opens_the_editor(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(f'#!/bin/sh\nprintf "%s" "{LIST}" > "$1"\n')
    editor.chmod(0o755)
    chat = Chat("guide", "--temperature", "0", EDITOR=str(editor), VISUAL=str(editor))
    chat.send("\x07")
    chat.shows(LIST)
    assert "lmsupply models" in chat.ask("")
    chat.leave()


def test_lines_are_kept_between_chats_for_their_owner_alone() -> None:
    chat = Chat("guide")
    chat.ask("hello there")
    chat.leave()
    assert stat.S_IMODE(paths.history_file().stat().st_mode) == 0o600
    chat = Chat("guide")
    chat.send("\x1b[A")
    chat.shows(">>> hello there")
    chat.send("\x03")
    chat.shows("Ctrl-D or /bye quits.")
    chat.ready(2)
    chat.send("hello t")
    chat.shows("hello there")  # suggested, dimmed
    chat.send("\x05")  # Ctrl-E takes it
    assert "hello there" in chat.ask("")
    assert "hello there" in chat.ask("/show prompt")
    chat.leave()


def test_ctrl_r_searches_the_lines() -> None:
    chat = Chat("guide")
    chat.ask("a rare question")
    chat.ask("hello")
    chat.send("\x12rare")
    chat.read(lambda text: text.count("a rare question") >= 2)
    chat.send("\x07")  # ends the search, and opens no editor
    chat.send("\x03")
    chat.ready(4)
    chat.leave()


def test_history_can_be_switched_off() -> None:
    before = paths.history_file().read_bytes() if paths.history_file().exists() else b""
    chat = Chat("guide", LMSUPPLY_HISTORY="off")
    chat.ask("a secret")
    chat.leave()
    after = paths.history_file().read_bytes() if paths.history_file().exists() else b""
    assert before == after


def test_tab_completes() -> None:
    chat = Chat("guide", "--no-save")
    for count, (typed, becomes) in enumerate(
        [
            ("/sess", "/sessions"),
            ("/set par", "/set parameter"),
            ("/set parameter tempe", "/set parameter temperature"),
            ("/think hi", "/think hide"),
            ("/show lic", "/show license"),
            ("/model gui", "/model guide"),
        ]
    ):
        chat.send(typed + "\t")
        chat.shows(f">>> {becomes}")
        chat.send("\x03")
        chat.ready(count + 2)
    chat.leave()


def test_tab_completes_paths_and_saved_chats(tmp_path: Path) -> None:
    (tmp_path / "a-long-name.txt").write_text("x")
    chat = Chat("guide", columns=200)
    chat.ask("hello")
    chat.ask("/save plum-cake")
    chat.send(f"see @{tmp_path}/a-lo\t")
    chat.shows(f"see @{tmp_path}/a-long-name.txt")
    chat.send("\x03")
    chat.ready(4)
    chat.send("/load plu\t")
    chat.shows("/load plum-cake")
    chat.send("\x03")
    chat.ready(5)
    chat.leave()


def test_the_bar_shows_model_and_context() -> None:
    chat = Chat("guide", "--context", "100")
    chat.shows("guide · cpu · 0/100 tokens")
    chat.ask(DOWNLOAD)
    chat.ask(DOWNLOAD)
    chat.shows("tokens/s")
    chat.ask("/clear")
    chat.shows("guide · cpu · 0/100 tokens")
    assert "] >>>" not in chat.text
    chat.leave()


def test_a_line_that_wraps_has_no_dots_in_front() -> None:
    chat = Chat("guide", "--no-save", columns=40)
    chat.send("word " * 20)
    chat.read(lambda text: "".join(text.split()).count("word") == 20)
    assert "..." not in chat.text
    chat.send("\x1b\rsecond")
    chat.shows("... second")
    chat.send("\x03")
    chat.ready(2)
    chat.leave()


def test_up_finds_lines_that_begin_as_typed() -> None:
    chat = Chat("guide", "--no-save")
    for line in ("say one", "hello", "say two", "/stats off"):
        chat.ask(line)

    def becomes(keys: str, line: str) -> None:
        chat.send(keys)
        chat.read(lambda text: text.split(">>>")[-1].split("\n")[0].strip() == line, limit_s=10)

    becomes("say \x1b[A", "say two")
    becomes("\x1b[A", "say one")
    becomes("\x1b[B", "say two")
    chat.send("\x03")
    chat.ready(6)
    becomes("\x1b[A", "say two")  # the command that came last is passed over
    chat.send("\x03")
    chat.ready(7)
    becomes("/\x1b[A", "/stats off")
    chat.send("\x03")
    chat.ready(8)
    chat.leave()


# screens


@pytest.mark.parametrize("columns", [40, 60, 160])
def test_on_narrow_and_wide_screens(columns: int) -> None:
    chat = Chat("guide", columns=columns, rows=60)
    chat.ask("/help")
    assert "works offline." in chat.ask(DOWNLOAD)
    assert all(len(line) <= columns for line in chat.text.splitlines())
    chat.leave()


def test_on_a_dumb_terminal() -> None:
    chat = Chat("guide", "--temperature", "0", TERM="dumb")
    chat.send(DOWNLOAD + "\r")
    chat.shows("works offline.")
    chat.send("/bye\r")
    assert chat.end() == 0
    assert b"\x1b[3" not in chat.raw


def test_plain_shows_the_markdown() -> None:
    chat = Chat("guide", "--plain", "--temperature", "0")
    assert "Run `lmsupply pull phi-4-mini`." in chat.ask(DOWNLOAD)
    chat.leave()


def test_without_color() -> None:
    chat = Chat("guide", NO_COLOR="1")
    chat.ask(DOWNLOAD)
    chat.leave()
    assert not re.search(rb"\x1b\[[\d;]*(?<!\d)[34]\d[;m]", chat.raw)
    assert b"38;5" not in chat.raw


def test_the_prompt_is_bold() -> None:
    chat = Chat("guide", "--no-save")
    assert re.search(rb"\x1b\[[\d;]*1m>>>", chat.raw)
    chat.leave()


def test_a_resize_in_the_middle_of_an_answer() -> None:
    chat = Chat(SLOW, *COUNT)
    chat.send("hello\r")
    chat.shows("ABCDE")
    chat.process.setwinsize(30, 50)
    chat.history.resize(30, 50)
    chat.read(lambda text: ">>>" in text.partition("(cut off after 150 tokens")[2])
    assert "Traceback" not in chat.text
    chat.leave()
