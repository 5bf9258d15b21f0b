"""Chats on disk, line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chats.archive import Archive, Recorder, read_chat
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.events import ToolCall

HELLO = [ChatMessage.user("hello"), ChatMessage.assistant("hi", reasoning="a greeting")]
MESSAGE = st.builds(
    ChatMessage,
    st.sampled_from([ChatRole.USER, ChatRole.ASSISTANT]),
    st.text(max_size=8),
    st.text(max_size=4),
    st.booleans(),
)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "sessions")


@settings(max_examples=40, deadline=None)
@given(states=st.lists(st.lists(MESSAGE, max_size=5), min_size=1, max_size=6))
def test_whatever_the_history_becomes_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, states: list[list[ChatMessage]]
) -> None:
    archive = Archive(tmp_path_factory.mktemp("sessions"))
    recorder = Recorder(archive, "x", model="guide")
    begun = False
    for state in states:
        recorder.messages(state)
        begun = begun or any(m.role == "user" for m in state)
    recorder.close()
    assert begun == ("x" in archive.names())
    if begun:
        assert archive.load("x").messages == states[-1]


def test_nothing_is_written_before_the_first_question(archive: Archive) -> None:
    recorder = Recorder(archive, model="guide")
    recorder.set_option("seed", 7)
    recorder.messages([ChatMessage.system("Be brief.")])
    assert archive.names() == []
    recorder.messages([ChatMessage.system("Be brief."), ChatMessage.user("hello")])
    recorder.close()
    assert archive.find().chats[0].options == {"seed": 7}


def test_what_answers_follow_is_kept(archive: Archive) -> None:
    colors, yes_or_no = Guidance.json_schema({"enum": ["red", "blue"]}), Guidance.regex("(yes|no)")
    recorder = Recorder(archive, "x", model="guide")
    recorder.set_format(colors)
    recorder.messages(HELLO[:1])
    assert archive.load("x").guidance == colors
    recorder.set_format(yes_or_no)
    assert archive.load("x").guidance == yes_or_no
    recorder.close()
    again = Recorder(archive, "x", model="guide")
    again.resume(archive.load("x"))
    size = archive.path("x").stat().st_size
    again.set_format(yes_or_no)
    assert archive.path("x").stat().st_size == size
    again.set_format(None)
    again.close()
    assert archive.load("x").guidance is None
    archive.path("x").write_text(archive.path("x").read_text() + '{"type": "format", "kind": "newer", "text": "x"}\n')
    assert archive.load("x").guidance is None


def test_a_file_that_was_cut_anywhere_is_read_up_to_there(archive: Archive) -> None:
    recorder = Recorder(archive, "x", model="guide", clock=iter(range(100)).__next__)
    recorder.messages(HELLO[:1])
    recorder.said("h", "")
    recorder.said("hi th", "")
    recorder.said("hi there", "")
    recorder.close()
    path = archive.path("x")
    data = path.read_bytes()
    assert archive.load("x").messages[-1] == ChatMessage.assistant("hi there", partial=True)
    first = data.index(b"\n") + 1
    for end in range(first, len(data)):
        path.write_bytes(data[:end])
        found = [m.content for m in read_chat(path).messages]
        assert found in ([], ["hello"], ["hello", "h"], ["hello", "hi th"], ["hello", "hi there"])


def test_calls_and_their_results_are_kept(archive: Archive) -> None:
    called = ChatMessage.assistant("I add.", tool_calls=[ToolCall("call_1", "add", '{"a": 1}')])
    messages = [HELLO[0], called, ChatMessage.tool("3", "call_1")]
    recorder = Recorder(archive, "x", model="guide", clock=iter(range(100)).__next__)
    recorder.messages(messages)
    recorder.close()
    assert list(archive.load("x").messages) == messages
    path = archive.path("x")
    path.write_text(path.read_text().replace('"name": "add"', '"name": 3').replace('"name":"add"', '"name":3'))
    assert read_chat(path).messages[1] == ChatMessage.assistant("I add.")
    path.write_text(path.read_text().replace("tool_call_id", "tool_call"))
    assert len(read_chat(path).messages) == 2


def test_what_was_text_and_turned_out_a_thought(archive: Archive) -> None:
    recorder = Recorder(archive, "x", model="guide", clock=iter(range(100)).__next__)
    recorder.messages(HELLO[:1])
    recorder.said("hmm", "")
    recorder.said("", "hmm")
    recorder.said("so", "hmm")
    recorder.close()
    assert archive.load("x").messages[-1] == ChatMessage.assistant("so", reasoning="hmm", partial=True)


def test_what_is_no_chat_is_left_out_of_the_list(archive: Archive) -> None:
    recorder = Recorder(archive, "good", model="guide")
    recorder.messages(HELLO)
    recorder.close()
    (archive.folder / "bad.jsonl").write_text("{}\n")
    (archive.folder / "newer.jsonl").write_text(json.dumps({"type": "session", "schema": 99}) + "\n")
    assert [chat.name for chat in archive.find().chats] == ["good"]
    with pytest.raises(LmsupplyError, match="no saved chat"):
        archive.load("bad")
    with pytest.raises(LmsupplyError, match="newer lmsupply"):
        archive.load("newer")
    with pytest.raises(UsageError, match="not a valid chat name"):
        archive.load("../bad")


def test_one_writer_at_a_time(archive: Archive) -> None:
    recorder = Recorder(archive, "x", model="guide")
    recorder.messages(HELLO)
    assert archive.is_open("x")
    with pytest.raises(UsageError, match="open in another window"):
        Recorder(archive, model="guide").resume(archive.load("x"))
    with pytest.raises(UsageError, match="is open"):
        archive.rename("x", "y")
    recorder.close()
    assert not archive.is_open("x")
    archive.rename("x", "y")
    assert archive.names() == ["y"]


def test_one_writer_at_a_time_where_the_file_system_grants_every_lock(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filelock._native._unix.lock_fd_nonblocking", lambda fd: True)
    test_one_writer_at_a_time(archive)
