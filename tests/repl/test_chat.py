"""The chat in a real pseudo-terminal: what is typed, and what the screen shows."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.chat import Chat
from support.terminal import Terminal

from lmsupply_cli import paths
from lmsupply_cli.repl.commands import COMMANDS

MODELS = Path(__file__).parent.parent / "models"
SLOW, TOY = str(MODELS / "slow"), str(MODELS / "toy")
COUNT = ("--temperature", "0", "--min-length", "150", "--max-tokens", "150")  # some seconds of printable characters
DOWNLOAD = "How do I download a model?"
LIST = "How do I list my models?"


# turns


def test_undo_takes_back_a_turn() -> None:
    chat = Chat("guide")
    chat.ask(DOWNLOAD)
    assert "Taken back: How do I download a model?" in chat.ask("/undo")
    assert "/undo cannot be used: there is no message of yours yet" in chat.ask("/undo")
    assert "There is no message yet" in chat.ask("/show prompt")
    chat.leave()


def test_regen_answers_again_from_the_cache() -> None:
    chat = Chat("guide", "--stats", "--temperature", "0")
    first = chat.ask(DOWNLOAD)
    again = chat.ask("/regen")
    assert "works offline." in first
    assert "works offline." in again
    assert "4 read" in again
    chat.leave()


def test_regen_without_an_answer_is_an_error() -> None:
    chat = Chat("guide")
    assert "error: /regen cannot be used: there is no message of yours yet" in chat.ask("/regen")
    chat.leave()


def test_edit_asks_the_changed_message(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i.bak s/download/list/ "$1"\n')
    editor.chmod(0o755)
    chat = Chat("guide", "--temperature", "0", EDITOR=str(editor))
    chat.ask("How do I download my models?")
    assert "lmsupply models" in chat.ask("/edit")
    shown = chat.ask("/show prompt")
    assert "how do i list my models?" in shown  # the guide reads in lower case
    assert "download my" not in shown
    assert "Nothing changed" in chat.ask("/edit")
    chat.leave()


def test_edit_with_a_broken_editor_loses_nothing() -> None:
    chat = Chat("guide", EDITOR="no-such-editor-anywhere")
    assert "/edit cannot be used: there is no message of yours yet" in chat.ask("/edit")
    chat.ask(DOWNLOAD)
    assert "cannot run the editor" in chat.ask("/edit")
    assert "download a model?" in chat.ask("/show prompt")
    chat.leave()


def test_continue_goes_on_with_a_cut_answer() -> None:
    chat = Chat("guide", "--temperature", "0", "--max-tokens", "12")
    assert "(cut after 12 tokens; /continue resumes" in chat.ask(DOWNLOAD)
    chat.ask("/set parameter max_tokens 200")
    assert "works offline." in chat.ask("/continue")
    shown = chat.ask("/show prompt")
    assert "Run `lmsupply pull phi-3.5`. It downloads the variant for this machine" in shown
    chat.leave()


def test_clear_forgets_and_keeps_the_system_prompt() -> None:
    chat = Chat("guide", "-s", "Be brief.")
    chat.ask(DOWNLOAD)
    assert "starts afresh" in chat.ask("/clear")
    shown = chat.ask("/show prompt")
    assert "be brief." in shown.lower()
    assert "download" not in shown
    chat.leave()


def test_read_sends_a_file(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text(DOWNLOAD + "\n")
    chat = Chat("guide", "--temperature", "0")
    assert "works offline." in chat.ask(f"/read {tmp_path}/q.txt")
    assert "/read needs the name of a file" in chat.ask("/read")
    assert "cannot read" in chat.ask("/read /no/such/file")
    (tmp_path / "b.bin").write_bytes(b"a\0b")
    assert "is binary" in chat.ask(f"/read {tmp_path}/b.bin")
    chat.leave()


# files in a message


def test_at_includes_a_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the secret word is plum")
    chat = Chat("guide", columns=200)
    chat.ask(f"look at @{tmp_path}/notes.txt, please")
    shown = chat.ask("/show prompt")
    assert "the secret word is plum" in shown
    assert f"@{tmp_path}/notes.txt, please" in shown
    chat.leave()


def test_at_that_is_no_file_is_said() -> None:
    chat = Chat("guide")
    assert "note: @gone.txt is no file here" in chat.ask("look at @gone.txt now")
    assert "note:" not in chat.ask("mail me@example.org or ask @someone")
    chat.leave()


# settings


def test_system_is_shown_set_and_taken_away() -> None:
    chat = Chat("guide")
    assert "There is no system prompt" in chat.ask("/system")
    assert "The system prompt is set" in chat.ask("/system Be brief.")
    assert chat.ask("/show system").endswith("Be brief.")
    assert "no system prompt now" in chat.ask('/set system ""')
    chat.leave()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/set parameter temperature 0.5", "temperature is 0.5 from the next answer on."),
        ("/set parameter num_predict 20", "max_tokens is 20"),
        ("/set parameter repeat_penalty 1.2", "repetition_penalty is 1.2"),
        ("/set parameter num_ctx 512", "context is 512"),
        ("/set parameter num_ctx 99999", "not between 1 and the model's 1024"),
        ("/set parameter stop END,STOP", "stop is 'END','STOP'"),
        ("/set temperature 0", "temperature is 0.0"),
        ("/set parameter temperatur 1", "did you mean temperature?"),
        ("/set parameter top_p 7", "top_p must be a number from 0 to 1"),
        ("/set parameter num_beams 4", "a chat cannot use num_beams"),
        ("/set parameter seed", "needs a name and a value"),
        ("/set nonsense", "/set knows no 'nonsense'"),
        ("/set verbose", "Statistics follow each answer."),
        ("/set quiet", "No statistics."),
        ("/think", "does not mark its thoughts"),
        ("/think maybe", "/think takes on, off or hide"),
        ("/show nonsense", "/show knows no 'nonsense'"),
        ("/show license", "MIT"),
        ("/show template", "<|im_start|>"),
        ("/show parameters", "max_tokens"),
        ("/show", "license MIT (permissive)"),
        ("/model", "guide on cpu"),
        ("/model no-such-model", "no model"),
        ("/load", "/load needs the name"),
        ("/load nothing", "there is no chat named 'nothing'"),
        ("/save x", "this chat is not kept"),
        ("/continue", "/continue cannot be used: there is no answer yet"),
        ("/export x.md", "/export cannot be used: there is no message of yours yet"),
        ("/help regen", "/regen answer the last message again"),
        ("/REGEN", "/regen cannot be used"),
        ("/nonsense", "no such command: /nonsense"),
    ],
)
def test_what_a_line_says(line: str, said: str, one_chat: Chat) -> None:
    shown = one_chat.ask(line)
    assert said in shown
    assert "Traceback" not in shown


@pytest.fixture(scope="module")
def one_chat() -> Chat:
    return Chat("guide", "--no-save", columns=120)


def test_a_parameter_holds_from_the_next_answer_on() -> None:
    chat = Chat("guide", "--temperature", "0")
    chat.ask("/set parameter max_tokens 3")
    assert "(cut after 3 tokens" in chat.ask(DOWNLOAD)
    chat.ask("/set parameter max_tokens default")
    assert "works offline." in chat.ask("/regen")
    chat.leave()


def test_a_change_of_sampling_keeps_the_cache() -> None:
    chat = Chat("guide", "--stats", "--temperature", "0")
    chat.ask(DOWNLOAD)
    chat.ask("/set parameter temperature 0.3")
    chat.ask("/set parameter seed 5")
    shown = chat.ask("thanks")
    cached = int(shown.split("(")[1].split()[0])
    assert cached >= 35
    chat.leave()


def test_stats_show_what_was_cached_and_read() -> None:
    chat = Chat("guide")
    chat.ask("/stats on")
    assert "(0 tokens cached" in chat.ask(DOWNLOAD)
    assert "(0 tokens cached" not in chat.ask("thanks")
    assert "No statistics" in chat.ask("/stats off")
    assert "cached" not in chat.ask("thanks")
    chat.leave()


# the model


def test_another_model_goes_on_with_the_chat() -> None:
    chat = Chat("guide", "--temperature", "0", "--max-tokens", "5", columns=120)
    chat.ask("hello")
    shown = chat.ask(f"/model {SLOW}")
    assert "on cpu, context" in shown
    assert "tokens of it again" in shown
    assert "hello" in chat.ask("/show prompt")
    assert "Hello! I am" in chat.ask("/model guide") or "guide on cpu" in chat.text
    chat.leave()


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in Path(SLOW).iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.onnx").write_bytes((broken / "model.onnx").read_bytes()[:-20])
    chat = Chat("guide", "--temperature", "0")
    assert "error:" in chat.ask(f"/model {broken}")
    assert "works offline." in chat.ask(DOWNLOAD)
    chat.leave()


# interrupts


def interrupted_while_loading() -> Terminal | None:
    """None where the test was too slow: the chat was there already, and said what leaves it."""
    terminal = Terminal("chat", "guide", PYTHONPROFILEIMPORTTIME="1")
    terminal.shows("lmsupply_cli.cli")  # before that, Python itself is interrupted
    terminal.send("\x03")
    try:
        terminal.shows("leaves the chat")
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
    chat.shows("(stopped; what was said stays in the chat)")
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


def test_an_error_of_a_turn_is_shown_and_the_chat_lives_on() -> None:
    chat = Chat(TOY, "--max-tokens", "5", "--on-overflow", "error")
    assert "error: the prompt has" in chat.ask("x" * 400)
    assert "error" not in chat.ask("hello")
    chat.leave()


def test_the_oldest_turns_are_dropped_and_that_is_said() -> None:
    chat = Chat("guide", "--context", "120", "--temperature", "0")
    said = " ".join(chat.ask(DOWNLOAD) for _ in range(4))
    assert "note: the context is full: the" in said
    assert "from “How do I download a model?” on" in said
    assert "messages are no longer given to the model" in chat.ask("/show info")
    chat.leave()


# the table


def test_help_names_every_command() -> None:
    chat = Chat("guide", "--no-save", columns=120, rows=60)
    shown = chat.ask("/help")
    for command in COMMANDS:
        assert all(name in shown for name in command.names)
    chat.leave()


def test_without_a_terminal_it_points_to_run() -> None:
    from support.cli import lmsupply

    result = lmsupply("chat", "guide", stdin="hello\n")
    assert result.code == 2
    assert "lmsupply run" in result.err
