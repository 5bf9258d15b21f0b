"""Chats that are kept: killed, resumed, searched, renamed, deleted, exported."""

from __future__ import annotations

import json
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.chat import Chat

from lmsupply_cli import paths
from lmsupply_cli.chats.archive import Archive
from lmsupply_cli.cli.complete import candidates

SLOW = str(Path(__file__).parent.parent / "models" / "slow")
COUNT = ("--temperature", "0", "--min-length", "150", "--max-tokens", "150")
DOWNLOAD = "How do I download a model?"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSUPPLY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def archive(home: Path) -> Archive:
    return Archive(paths.sessions_dir())


def test_killed_in_the_middle_of_an_answer_everything_up_to_it_is_there(archive: Archive) -> None:
    chat = Chat(SLOW, *COUNT)
    chat.ask("/set parameter seed 7")
    chat.send("hello\r")
    chat.shows("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    chat.read(lambda _: bool(archive.find()) and len(archive.find()[0].messages) == 2)
    chat.process.kill(signal.SIGKILL)
    chat.end()
    saved = archive.find()[0]
    assert saved.messages[0].content == "hello"
    assert saved.messages[1].partial
    assert '\x1f !"#$' in saved.messages[1].content
    chat = Chat("--continue", columns=120)
    assert f"Going on with {saved.name}: 2 messages." in chat.text
    assert "user: hello" in chat.text
    assert "tokens of it again" in chat.text
    assert "slow" in chat.text, "the model of the chat is loaded"
    assert "seed 7" in chat.ask("/set")
    chat.ask("/set parameter max_tokens 3")
    assert "(cut after 3 tokens" in chat.ask("/continue")
    chat.leave()
    rows = archive.find()[0].messages
    assert [m.role for m in rows] == ["user", "assistant"]
    assert len(rows[1].content) == len(saved.messages[1].content) + 3


def test_a_line_that_was_cut_is_left_out(archive: Archive) -> None:
    chat = Chat("guide")
    chat.ask(DOWNLOAD)
    chat.leave()
    saved = archive.find()[0]
    data = saved.path.read_bytes()
    saved.path.write_bytes(data[:-7])
    assert [m.role for m in archive.find()[0].messages][:1] == ["user"]
    chat = Chat("-c")
    chat.ask("thanks")
    chat.leave()
    found = archive.find()[0].messages
    assert [m.content for m in found if m.role == "user"] == [DOWNLOAD, "thanks"]


def test_names_and_resume(archive: Archive) -> None:
    chat = Chat("guide", "--temperature", "0")
    chat.ask("hello")
    assert "This chat is kept as 20" in chat.ask("/save")
    assert "This chat is plum cake now" in chat.ask("/save plum cake")
    assert "is no name for a chat" in chat.ask("/save ../x")
    chat.ask("thanks")
    chat.leave()
    assert archive.names() == ["plum cake"]
    assert candidates(["chat", "--resume", "pl"]) == [("plum cake", "")], "the shell completes it"
    chat = Chat("guide", "--resume", "plum cake")
    assert "Going on with plum cake: 4 messages." in chat.text
    chat.leave()
    assert stat.S_IMODE(archive.find()[0].path.stat().st_mode) == 0o600


def test_the_format_of_answers_is_there_again(archive: Archive) -> None:
    chat = Chat("guide", columns=120)
    chat.ask('/format {"enum": ["this", "that"]}')
    chat.ask("which?")
    chat.ask("/save format")
    chat.leave()
    chat = Chat("guide", "--resume", "format", columns=120)
    assert "Answers follow a JSON schema; /format off frees them." in chat.text
    assert chat.ask("and now?").split()[-1] in ('"this"', '"that"')
    chat.ask("/clear")
    assert chat.ask("and here?").split()[-1] in ('"this"', '"that"')
    chat.leave()
    assert {saved.guidance is not None for saved in archive.find()} == {True}


def test_sessions_lists_searches_renames_and_deletes(archive: Archive) -> None:
    for name, text in (("one", "about Ünïcode things"), ("two", "something else")):
        chat = Chat("guide")
        chat.ask(text)
        chat.ask(f"/save {name}")
        chat.leave()
    chat = Chat("guide", columns=120)
    shown = chat.ask("/sessions")
    assert "two something else" in shown
    assert "one about Ünïcode things" in shown
    shown = chat.ask("/sessions ünÏCODE")
    assert "one" in shown
    assert "something else" not in shown
    assert "No saved chat holds 'zzz'" in chat.ask("/sessions zzz")
    assert "one is three now" in chat.ask("/sessions rename one three")
    assert "there is a chat named 'two' already" in chat.ask("/sessions rename three two")
    chat.send("/sessions delete two\r")
    chat.shows("for good? [y/N]")
    chat.ask("n")
    assert sorted(archive.names()) == ["three", "two"]
    chat.send("/sessions delete two\r")
    chat.read(lambda text: text.count("for good? [y/N]") == 2)
    assert "It is deleted." in chat.ask("y")
    assert archive.names() == ["three"]
    assert "Going on with three" in chat.ask("/load three")
    assert "This is that chat." in chat.ask("/load three")
    chat.leave()


@pytest.mark.parametrize(
    ("name", "check"),
    [
        (
            "chat.md",
            lambda text: text.startswith("# Chat with guide\n\n## You\n\nHow do I download a model?\n\n## Ass"),
        ),
        ("chat.txt", lambda text: text.startswith("You: How do I download a model?\n\nAssistant: Run")),
        ("chat.json", lambda text: json.loads(text)["messages"][0] == {"role": "user", "content": DOWNLOAD}),
    ],
)
def test_export(home: Path, tmp_path: Path, name: str, check: Callable[[str], bool]) -> None:
    chat = Chat("guide", "--temperature", "0", columns=200)
    chat.ask(DOWNLOAD)
    path = tmp_path / name
    assert f"Written: {path}" in chat.ask(f"/export {path}")
    assert check(path.read_text(encoding="utf-8"))
    chat.send(f"/export {path}\r")
    chat.shows("Write over it? [y/N]")
    chat.ask("y")
    assert "/export needs a file" in chat.ask("/export")
    assert "cannot be written as .pdf" in chat.ask(f"/export {path}.pdf")
    assert "cannot write" in chat.ask("/export /no/such/folder/x.md")
    chat.leave()


def test_clear_begins_another_saved_chat(archive: Archive) -> None:
    chat = Chat("guide")
    chat.ask("hello")
    chat.ask("/clear")
    chat.ask("thanks")
    chat.leave()
    assert sorted(len(found.messages) for found in archive.find()) == [2, 2]


@pytest.mark.parametrize("how", ["--no-save", "setting"])
def test_a_chat_that_is_not_kept(archive: Archive, how: str) -> None:
    more, environ = ((how,), {}) if how == "--no-save" else ((), {"LMSUPPLY_SAVE_SESSIONS": "off"})
    chat = Chat("guide", *more, **environ)
    chat.ask("hello")
    assert "not kept" in chat.ask("/save x")
    assert "not kept" in chat.ask("/show info")
    chat.leave()
    assert archive.names() == []


def test_two_chats_at_once_do_not_hurt_each_other(archive: Archive) -> None:
    first, second = Chat("guide"), Chat("guide")
    first.ask("hello from the first")
    second.ask("hello from the second")
    name = next(found.name for found in archive.find("from the first"))
    assert "is open in another window" in second.ask(f"/load {name}")
    assert f"the chat '{name}' is open" in second.ask(f"/sessions delete {name}")
    second.ask("more")
    first.ask("thanks")
    first.leave()
    assert "Going on with" in second.ask(f"/load {name}")
    second.leave()
    assert sorted(len(found.messages) for found in archive.find()) == [4, 4]
    assert not list(paths.sessions_dir().glob("*.lock"))


def test_what_cannot_be_resumed_is_said(home: Path) -> None:
    from support.terminal import Terminal

    for arguments, said in (
        (("-c",), "there is no saved chat to go on with"),
        (("--resume", "x"), "there is no chat named 'x'"),
        (("-c", "--resume", "x"), "--continue and --resume exclude each other"),
    ):
        terminal = Terminal("chat", "guide", *arguments, columns=120)
        assert terminal.end() == 2
        assert said in terminal.text


def test_undo_and_regen_are_kept(archive: Archive) -> None:
    chat = Chat("guide", "--temperature", "0")
    chat.ask(DOWNLOAD)
    chat.ask("thanks")
    chat.ask("/undo")
    chat.ask("/regen")
    chat.leave()
    found = archive.find()[0].messages
    assert [m.role for m in found] == ["user", "assistant"]
    assert not found[1].partial


def test_a_saved_answer_cannot_steer_the_terminal(archive: Archive) -> None:
    chat = Chat("guide")
    chat.ask("hello")
    chat.leave()
    saved = archive.find()[0]
    text = saved.path.read_text()
    saved.path.write_text(text.replace("Hello! I am", "\\u001b[31mRED\\u001b]0;title\\u0007"))
    chat = Chat("-c")
    assert "RED" in chat.text
    assert b"\x1b[31m" not in chat.raw
    assert b"\x1b]0;title" not in chat.raw
    chat.leave()
