"""A chat that cannot be saved is a chat all the same; a damaged one hides no other."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from support.chat import Chat
from support.cli import lmsupply
from support.scripted import Scripted

from lmsupply_cli import paths
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chats.archive import Archive, Recorder, read_chat
from lmsupply_cli.errors import FileError, LmsupplyError, UsageError
from lmsupply_cli.repl.editor import edit_text
from lmsupply_cli.repl.input import private_history

QUESTION = "How do I list my models?"
ANSWER = "Run `lmsupply models`"


def test_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    chat = Scripted(tmp_path / "state" / "sessions")
    said = chat.talk("hello", "hello", "/save x", "/sessions", "/show info", "/clear")
    assert said[0].startswith("note: this chat can no longer be saved: cannot write")
    assert said[0].endswith("Hi there.")
    assert said[1] == "Hi there.", "it is said once"
    assert said[2].startswith("This chat cannot be saved: cannot write")
    assert said[3] == "There are no saved chats."
    assert "chat not saved" in said[4]
    assert said[5] == "New chat."


def test_a_chat_in_a_state_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "state").write_text("a file where a folder should be")
    monkeypatch.setenv("LMSUPPLY_HOME", str(home))
    chat = Chat("guide")
    first = chat.ask(QUESTION)
    assert "this chat can no longer be saved: cannot write" in first
    assert "Run lmsupply models" in first
    assert "a bug" not in chat.leave()


def test_a_disk_that_fills_up_takes_no_answer_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = Scripted(tmp_path).talk("hello", "hello")
    assert said[0].count("can no longer be saved") == 1
    assert "No space left on device" in said[0]
    assert said[0].endswith("Hi there.")
    assert said[1] == "Hi there."


def test_a_disk_that_fills_up_while_a_chat_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Archive(tmp_path), "x", model="guide")
    asked = [ChatMessage.user("a")]
    recorder.messages(asked)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        recorder.messages([*asked, ChatMessage.assistant("b")])
    recorder.close()
    monkeypatch.undo()
    assert [m.content for m in read_chat(tmp_path / "x.jsonl").messages] == ["a", "b"]


def test_a_rename_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(Archive(tmp_path), "x", model="guide")
    asked = [ChatMessage.user("a")]
    recorder.messages(asked)

    def refused(self: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(FileError, match="Permission denied"):
        recorder.rename("y")
    monkeypatch.undo()
    assert recorder.name == "x"
    recorder.messages([*asked, ChatMessage.assistant("b")])
    recorder.close()
    assert [m.content for m in read_chat(tmp_path / "x.jsonl").messages] == ["a", "b"]


GOOD = [
    {"type": "session", "schema": 1, "created": "2026-01-01", "model": "guide"},
    {"type": "message", "role": "user", "content": "good"},
]
ODD_LINES = [
    '{"type":"keep","count":null}',
    '{"type":"keep","count":-1}',
    '{"type":"keep","count":' + "9" * 5000 + "}",
    '{"type":"message","role":5,"content":{"a":1}}',
    '{"type":"set","key":null,"value":[[1]]}',
    '{"type":"format","kind":"regex","text":5}',
    "[" * 20_000,
    '{"a":' * 300 + "1" + "}" * 300,
    '"\\ud800"',
    "\x00\x01",
]


@pytest.mark.parametrize("line", ODD_LINES, ids=range(len(ODD_LINES)))
def test_a_damaged_line_of_a_saved_chat_is_skipped(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join([*map(json.dumps, GOOD), line]) + "\n")
    assert read_chat(path).messages[0].content == "good"


def test_a_file_that_is_no_chat_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSUPPLY_HOME", str(tmp_path))
    folder = paths.sessions_dir()
    folder.mkdir(parents=True)
    (folder / "good.jsonl").write_text("\n".join(map(json.dumps, GOOD)) + "\n")
    (folder / "newer.jsonl").write_text(json.dumps({"type": "session", "schema": 99}) + "\n")
    (folder / "binary.jsonl").write_bytes(bytes(range(256)))
    (folder / "folder.jsonl").mkdir()
    archive = Archive(folder)
    found = archive.find()
    assert ([chat.name for chat in found.chats], len(found.skipped)) == (["good"], 3)
    with pytest.raises(LmsupplyError, match="newer"):
        archive.load("newer")
    chat = Chat("--continue", columns=120)
    assert "Resumed good: 1 message." in chat.text
    assert chat.text.count("note: skipped:") == 3
    chat.leave()
    said = Scripted(folder).talk("/sessions")[0]
    assert said.count("note: skipped:") == 3
    assert "1 good good · guide · 1 message · " in said


def test_history_that_cannot_be_written_stays_in_memory(tmp_path: Path) -> None:
    history = private_history(tmp_path / "history")
    history.append_string("one")
    (tmp_path / "history").unlink()
    (tmp_path / "history").mkdir()
    history.append_string("two")
    assert history.get_strings()[-2:] == ["one", "two"]
    assert list(private_history(tmp_path / "history").load_history_strings()) == []


@pytest.mark.parametrize("editor", ['"', "/no/such/editor"])
def test_an_editor_that_cannot_be_run_is_one_line(editor: str) -> None:
    with pytest.raises(UsageError, match="cannot run the editor"):
        edit_text("x", {"EDITOR": editor})


def test_an_editor_that_ctrl_g_cannot_run_is_one_line() -> None:
    chat = Chat("guide", EDITOR='"')
    chat.send("\x07")
    chat.shows("error: cannot run the editor")
    assert "Traceback" not in chat.leave()


@pytest.mark.parametrize(
    ("arguments", "shell"),
    [
        (["run", "-q", "x"], "head -c 20000000 /dev/zero | tr '\\0' a |"),
        (["run", "-q", "x"], "yes |"),
        (["run", "-q", "-f", "/dev/zero", "thanks"], ""),
        (["run", "-q", "--json-schema", "/dev/zero", "-m", "guide", "x"], ""),
        (["run", "-q", "--grammar", "/dev/zero", "-m", "guide", "x"], ""),
        (["run", "--batch", "/dev/zero", "--out", "o.jsonl", "-m", "guide"], ""),
    ],
)
def test_what_has_no_end_is_read_up_to_a_limit(arguments: list[str], shell: str, tmp_path: Path) -> None:
    import subprocess

    command = f'ulimit -v 6000000; {shell} "$0" "$@"'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, "-m", "lmsupply_cli", *arguments],
        capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert "larger than the limit" in done.stderr
    assert len(done.stderr) < 500


def test_a_prompt_of_the_usual_size_is_read_as_before(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("thanks")
    assert lmsupply("run", "-q", "-f", tmp_path / "a.txt").out == "You are welcome!\n"
    assert lmsupply("run", "-q", stdin="thanks").out == "You are welcome!\n"
