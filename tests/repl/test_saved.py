"""Chats that are kept: killed, resumed, searched, renamed, deleted, exported."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.chat import Chat
from support.scripted import Scripted, fake

from lmsupply_cli import paths
from lmsupply_cli.chats.archive import Archive, SavedChat, read_chat
from lmsupply_cli.cli.complete import candidates

SLOW = str(Path(__file__).parent.parent / "models" / "slow")
COUNT = ("--temperature", "0", "--min-length", "150", "--max-tokens", "150")
DOWNLOAD = "How do I download a model?"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSUPPLY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def archive(home: Path) -> Archive:
    return Archive(paths.sessions_dir())


def test_killed_in_the_middle_of_an_answer_everything_up_to_it_is_there(archive: Archive) -> None:
    chat = Chat(SLOW, *COUNT)
    chat.ask("/set parameter seed 7")
    chat.ask("/set context 250")
    chat.send("hello\r")
    chat.shows("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    chat.read(lambda _: bool(archive.find().chats) and len(archive.find().chats[0].messages) == 2)
    chat.process.kill(signal.SIGKILL)
    chat.end()
    saved = archive.find().chats[0]
    assert saved.messages[0].content == "hello"
    assert saved.messages[1].partial
    assert '\x1f !"#$' in saved.messages[1].content
    chat = Chat("--continue", columns=120)
    assert f"Resumed {saved.name}: 2 messages." in chat.text
    assert "user: hello" in chat.text
    assert "tokens will be reprocessed." in chat.text
    assert "slow" in chat.text, "the model of the chat is loaded"
    assert "on cpu, context 250 tokens. /help for help" in chat.text, "as it was set in the chat"
    assert "seed 7" in chat.ask("/set")
    chat.ask("/set parameter max_tokens 3")
    assert "(cut off after 3 tokens" in chat.ask("/continue")
    chat.leave()
    rows = archive.find().chats[0].messages
    assert [m.role for m in rows] == ["user", "assistant"]
    assert len(rows[1].content) == len(saved.messages[1].content) + 3


def test_a_line_that_was_cut_is_left_out(folder: Path) -> None:
    Scripted(folder).talk("hello")
    chat = Scripted(folder)
    saved = chat.saved()
    saved.path.write_bytes(saved.path.read_bytes()[:-7])
    assert [m.role for m in chat.saved().messages][:1] == ["user"]
    chat.talk("/load 1", "thanks")
    assert [m.content for m in chat.saved().messages if m.role == "user"] == ["hello", "thanks"]


def test_names_and_resume(archive: Archive) -> None:
    chat = Chat("guide", "--temperature", "0")
    chat.ask("hello")
    assert "Saved automatically as 20" in chat.ask("/save")
    assert "Saved as plum cake;" in chat.ask("/save plum cake")
    assert "is not a valid chat name" in chat.ask("/save ../x")
    chat.ask("thanks")
    chat.leave()
    assert archive.names() == ["plum cake"]
    assert candidates(["chat", "--resume", "pl"]) == [("plum cake", "")], "the shell completes it"
    for name in ("plum cake", "1"):
        chat = Chat("guide", "--resume", name)
        assert "Resumed plum cake: 4 messages." in chat.text
        chat.leave()
    assert stat.S_IMODE(archive.find().chats[0].path.stat().st_mode) == 0o600


def test_the_format_of_answers_is_there_again(folder: Path) -> None:
    enum = '{"enum": ["this", "that"]}'
    Scripted(folder, fake("that")).talk(f"/format {enum}", "which?", "/save format")
    said = Scripted(folder, fake("that")).talk("/load format", "and now?", "/clear", "and here?")
    assert "Resumed format: 2 messages. Answers follow a JSON schema. /format off to stop." in said[0]
    assert said[1] in ('"this"', '"that"')
    assert said[3] in ('"this"', '"that"')
    assert {saved.guidance is not None for saved in Archive(folder).find().chats} == {True}


def test_sessions_lists_searches_and_renames(folder: Path) -> None:
    for at, (name, text) in enumerate((("one", "about Ünïcode things"), ("two", "something else"))):
        Scripted(folder).talk(text, f"/save {name}")
        os.utime(folder / f"{name}.jsonl", (1000 * at, 1000 * at))
    chat = Scripted(folder)
    said = chat.talk(
        "/sessions",
        "/chats ünÏCODE",
        "/sessions zzz",
        "/sessions rename one three",
        "/sessions rename three two",
        '/sessions rename 2 "a cake"',
        "/sessions rename x",
        '/sessions rename "',
    )
    assert said[0].startswith("1 something else two · fake · 2 messages · ")
    assert " 2 about Ünïcode things one · fake · 2 messages · " in said[0]
    assert said[0].endswith("days ago /load N opens one.")
    assert "one" in said[1]
    assert "something else" not in said[1]
    assert said[2] == "No saved chat matches 'zzz'."
    assert said[3] == "Renamed one to three."
    assert "there is a chat named 'two' already" in said[4]
    assert "no chat number 2" in said[5], "the list that was shown last has one chat"
    assert "needs an old and a new name" in said[6]
    assert "needs an old and a new name" in said[7]
    assert sorted(chat.archive.names()) == ["three", "two"]


def test_sessions_deletes_after_a_question(folder: Path) -> None:
    for name in ("one", "two"):
        Scripted(folder).talk("hello", f"/save {name}")
    chat = Scripted(folder, confirm=["n", "y"])
    said = chat.talk("/sessions delete two", "/sessions delete two", "/sessions delete two", "/load one", "/load one")
    assert said[0] == "Delete the chat 'two' permanently? [y/N]"
    assert said[1] == "Delete the chat 'two' permanently? [y/N] Deleted."
    assert "there is no chat named 'two'" in said[2]
    assert "hint: the most recent: " in said[2]
    assert said[3].startswith("Resumed one: 2 messages. user: hello assistant: Hi there.")
    assert said[4] == "That chat is already open."
    assert chat.archive.names() == ["one"]


def test_this_chat_is_marked_and_renamed_in_place(folder: Path) -> None:
    chat = Scripted(folder)
    said = chat.talk("hello", "/save mine", "/sessions", "/sessions rename mine yours", "thanks", "/sessions delete 1")
    assert " · this chat " in said[2]
    assert said[3] == "Renamed mine to yours."
    assert "the chat 'yours' is open" in said[5], "the number of the list that was shown"
    assert len(chat.saved().messages) == 4
    assert chat.archive.names() == ["yours"]


def test_chats_are_loaded_by_their_number(folder: Path) -> None:
    for at, name in enumerate(("old", "new", "7")):
        Scripted(folder).talk(f"about {name}", f"/save {name}")
        os.utime(folder / f"{name}.jsonl", (at, at))
    assert Scripted(folder).talk("/load 2")[0].startswith("Resumed new:")
    assert Scripted(folder).talk("/sessions about old", "/load 1")[1].startswith("Resumed old:")
    assert Scripted(folder).talk("/load 7")[0].startswith("Resumed 7:"), "a name comes first"
    assert "there is no chat number 4" in Scripted(folder).talk("/load 4")[0]


def test_a_long_list_shows_the_latest(folder: Path) -> None:
    for _ in range(12):
        Scripted(folder).talk("hello " * 30)
    said = Scripted(folder).talk("/sessions", "/load 12")
    assert " 10 hello" in said[0]
    assert " 11 " not in said[0]
    assert said[0].endswith("2 older chats not shown: /sessions TEXT searches. /load N opens one.")
    assert said[1].startswith("Resumed ")


def test_a_chat_of_another_model_says_so_and_how_to_switch(folder: Path) -> None:
    Scripted(folder, fake(ref="other")).talk("hello", "/save wolf")
    chat = Scripted(folder, models={"other": lambda: fake(ref="other")})
    said = chat.talk("/load wolf")[0]
    assert "note: this chat used other; /model other switches to it" in said
    assert chat.saved().model == "other", "until it is answered by another one"
    Scripted(folder).talk("/load wolf", "thanks")
    assert chat.saved().model == "fake"
    assert "was held with" not in Scripted(folder).talk("/load wolf")[0]


def test_a_stop_sequence_with_a_comma_and_a_reset_option_come_back(folder: Path) -> None:
    Scripted(folder).talk('/set stop "A,B"', "/set seed 7", "/set seed default", "hello", "/save x")
    chat = Scripted(folder)
    assert "not restored" not in chat.talk("/load x")[0]
    assert chat.chat.session.options.stop == ("A,B",)
    assert chat.chat.session.options.seed is None


def test_a_cut_message_of_a_resumed_chat_has_one_ellipsis(folder: Path) -> None:
    Scripted(folder, fake("word " * 40)).talk("/set max_tokens 90", "hello", "/save x")
    said = Scripted(folder).talk("/load x")[0]
    assert "…" in said
    assert "……" not in said
    assert "Settings: max_tokens 90." in said


def test_options_come_back_with_a_chat(folder: Path) -> None:
    Scripted(folder).talk("/set seed 7", "/set num_ctx 3000", "/set stop A,B", "hello", "/save x")
    chat = Scripted(folder, fake(context=2000))
    said = chat.talk("/load x")[0]
    assert chat.chat.session.options.seed == 7
    assert chat.chat.session.options.stop == ("A", "B")
    assert "note: context 3000 was not restored" in said


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("chat.md", lambda text: text == "# Chat with fake\n\n## You\n\nhello\n\n## Assistant\n\nHi there.\n"),
        ("chat.txt", lambda text: text == "You: hello\n\nAssistant: Hi there.\n"),
        ("chat.json", lambda text: json.loads(text)["messages"][0] == {"role": "user", "content": "hello"}),
    ],
)
def test_export(folder: Path, tmp_path: Path, name: str, check: Callable[[str], bool]) -> None:
    path = tmp_path / name
    chat = Scripted(folder, confirm=["n", "y"])
    said = chat.talk(
        "hello",
        f"/export {path}",
        f"/export {path}",
        f"/export {path}",
        "/export",
        f"/export {path}.pdf",
        f"/export {tmp_path}/plain",
        "/export /no/such/folder/x.md",
    )
    assert said[1] == f"Saved to {path}"
    assert check(path.read_text(encoding="utf-8"))
    assert said[2] == f"{path} exists. Overwrite it? [y/N]"
    assert said[3].endswith(f"Saved to {path}")
    assert "error: /export needs a file hint: use the extension .md, .json or .txt" in said[4]
    assert "cannot be exported as .pdf hint: use the extension .md, .json or .txt" in said[5]
    assert "a file without an extension" in said[6]
    assert "cannot write" in said[7]


def test_clear_begins_another_saved_chat(folder: Path) -> None:
    chat = Scripted(folder)
    chat.talk("hello", "/clear", "thanks")
    assert sorted(len(found.messages) for found in chat.archive.find().chats) == [2, 2]


@pytest.mark.parametrize("how", ["--no-save", "setting"])
def test_a_chat_that_is_not_kept(archive: Archive, how: str) -> None:
    more, environ = ((how,), {}) if how == "--no-save" else ((), {"LMSUPPLY_SAVE_SESSIONS": "off"})
    chat = Chat("guide", *more, **environ)
    chat.ask("hello")
    assert "not saved" in chat.ask("/save x")
    assert "not saved" in chat.ask("/show info")
    chat.leave()
    assert archive.names() == []


def test_two_chats_at_once_do_not_hurt_each_other(folder: Path) -> None:
    first, second = Scripted(folder), Scripted(folder)
    first.chat.ask("hello from the first")
    name = first.chat.keeper.name
    said = second.talk("hello from the second", f"/load {name}", f"/sessions delete {name}", "more")
    assert "is open in another window" in said[1]
    assert f"the chat '{name}' is open" in said[2]
    first.talk("thanks")
    third = Scripted(folder)
    assert third.talk(f"/load {name}")[0].startswith(f"Resumed {name}: 4 messages.")
    assert sorted(len(found.messages) for found in third.archive.find().chats) == [4, 4]
    assert not list(folder.glob("*.lock"))


def test_what_cannot_be_resumed_is_said(home: Path) -> None:
    from support.terminal import Terminal

    for arguments, said in (
        (("-c",), "there is no saved chat to resume"),
        (("--resume", "x"), "there is no chat named 'x'"),
        (("--resume", "x"), "hint: no chats are saved yet"),
        (("--resume", "2"), "there is no chat number 2, 0 chats listed"),
        (("-c", "--resume", "x"), "--continue and --resume can't be combined"),
    ):
        terminal = Terminal("chat", "guide", *arguments, columns=120)
        assert terminal.end() == 2
        assert said in terminal.text


def test_undo_and_regen_are_kept(folder: Path) -> None:
    chat = Scripted(folder)
    chat.talk("hello", "thanks", "/undo", "/regen")
    found = chat.saved().messages
    assert [m.role for m in found] == ["user", "assistant"]
    assert not found[1].partial


def test_a_saved_answer_cannot_steer_the_terminal(archive: Archive) -> None:
    chat = Chat("guide")
    chat.ask("hello")
    chat.leave()
    saved = archive.find().chats[0]
    text = saved.path.read_text()
    saved.path.write_text(text.replace("Hello! I am", "\\u001b[31mRED\\u001b]0;title\\u0007"))
    chat = Chat("-c")
    assert "RED" in chat.text
    assert b"\x1b[31m" not in chat.raw
    assert b"\x1b]0;title" not in chat.raw
    chat.leave()


def test_a_list_reads_each_chat_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("one", "two"):
        (folder / f"{name}.jsonl").write_text("no chat")
    read: list[str] = []

    def counted(path: Path) -> SavedChat:
        read.append(path.name)
        return read_chat(path)

    monkeypatch.setattr("lmsupply_cli.chats.archive.read_chat", counted)
    assert Scripted(folder).talk("/sessions")[0].count("note: skipped:") == 2
    assert sorted(read) == ["one.jsonl", "two.jsonl"]
