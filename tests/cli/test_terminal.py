"""What only a terminal shows: run and chat in a real pseudo-terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.terminal import Terminal

SLOW = str(Path(__file__).parent.parent / "models" / "slow")
COUNT = ("--temperature", "0", "--min-length", "150", "--max-tokens", "150")  # some seconds of printable characters
ANSWER = "It downloads the variant for this machine"


def screen_has(terminal: Terminal, text: str) -> bool:
    return text in " ".join(terminal.text.split())


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_run_renders_the_answer(columns: int) -> None:
    terminal = Terminal("run", "How do I download a model?", columns=columns)
    assert terminal.end() == 0
    assert screen_has(terminal, "Run lmsupply pull phi-4-mini. " + ANSWER)  # rendered: the backquotes are gone
    assert "`" not in terminal.text
    assert all(len(line) <= columns for line in terminal.text.splitlines())


def test_plain_shows_the_markdown() -> None:
    terminal = Terminal("run", "--plain", "How do I download a model?")
    assert terminal.end() == 0
    assert "`lmsupply pull phi-4-mini`" in terminal.text


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"LMSUPPLY_THEME": "none"}])
def test_without_color(environ: dict[str, str]) -> None:
    terminal = Terminal("run", "How do I download a model?", **environ)
    assert terminal.end() == 0
    assert ANSWER in " ".join(terminal.text.split())
    if "NO_COLOR" in environ:
        assert b"\x1b[3" not in terminal.raw
    else:  # a theme is of the answer, not of the notes
        assert b"\x1b" not in terminal.raw[0 if "TERM" in environ else terminal.raw.index(b"Run `") :]


def test_no_escape_sequence_of_a_model_reaches_the_terminal() -> None:
    toy = str(Path(__file__).parent.parent / "models" / "toy")
    for more in ([], ["--no-stream"]):  # the toy counts through every control character
        terminal = Terminal(
            "run", toy, "x", "--raw", "--max-tokens", "200", "--temperature", "0", *more, LMSUPPLY_THEME="none"
        )
        terminal.end()
        assert not any(b < 32 and b not in b"\r\n\t" for b in terminal.raw)


@pytest.mark.parametrize("stage", ["notice", "answer"])
def test_ctrl_c_ends_run_with_130(stage: str) -> None:
    """While the model loads, and in the middle of an answer; what was printed stays."""
    if stage == "notice":
        terminal = Terminal("run", "How do I download a model?", "--min-length", "900", "--max-tokens", "950")
        terminal.shows("note: no model is installed")
    else:
        terminal = Terminal("run", SLOW, "--raw", "say 0", *COUNT)
        terminal.shows("12345")
    before = terminal.text
    terminal.send("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert terminal.text.startswith(before[:10])
    assert b"\x1b[?25l" not in terminal.raw  # the cursor was never hidden


def test_a_chat_of_several_turns() -> None:
    terminal = Terminal("chat", "guide")
    terminal.shows(">>>")
    terminal.send("How do I download a model?\r")
    terminal.shows("works offline.")
    terminal.read(lambda text: text.count(">>>") == 2)
    terminal.send("/stats\r")
    terminal.shows("Stats on.")
    terminal.send("thanks\r")
    terminal.shows(" cached) · ")
    assert "You are welcome!" in terminal.text
    terminal.send("/help\r")
    terminal.shows("/bye /exit /quit")
    terminal.send("/clear\r")
    terminal.shows("New chat.")
    terminal.send("/sats\r")
    terminal.shows("did you mean /stats?")
    terminal.send("/stats maybe\r")
    terminal.shows("/stats takes on or off")
    terminal.send("/bye\r")
    assert terminal.end() == 0
    assert terminal.text.rstrip().endswith("Bye.")


def test_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    terminal = Terminal("chat", SLOW, *COUNT)
    terminal.shows(">>>")
    terminal.send("hello\r")
    terminal.shows("ABCDE")
    terminal.send("\x03")
    text = terminal.shows("(stopped; partial answer kept)")
    terminal.read(lambda text: text.count(">>>") == 2)
    assert "ABCDE" in text
    terminal.send("again\r")
    terminal.read(lambda text: text.count("ABCDE") == 2)
    terminal.send("\x03")
    terminal.read(lambda text: text.count("(stopped") == 2)
    terminal.read(lambda text: text.count(">>>") == 3)
    terminal.send("\x03")
    terminal.shows("Ctrl-D or /bye quits")
    terminal.send("\x04")
    assert terminal.end() == 0
    assert "Traceback" not in text


def test_a_failing_turn_does_not_end_the_chat() -> None:
    terminal = Terminal("chat", "guide", "--context", "60")
    terminal.shows(">>>")
    terminal.send("word " * 100 + "\r")
    terminal.shows("the context has 60")
    terminal.send("hello\r")
    terminal.shows("I am the lmsupply guide")
    terminal.send("\x04")
    assert terminal.end() == 0


def test_a_pasted_block_is_one_message() -> None:
    terminal = Terminal("chat", "guide")
    terminal.shows(">>>")
    terminal.send("\x1b[200~hello\nhello\nhello\x1b[201~")
    terminal.send("\r")
    terminal.shows("guide. Ask me")
    terminal.send("\x04")
    assert terminal.end() == 0
    assert terminal.text.count("Ask me how to") <= 1
