"""Files in folders that may not be entered, and homes of users who are not there: absent, or one clear line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.cli import lmsupply

from lmsupply_cli import TextGeneratorBuilder
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chats.archive import Archive
from lmsupply_cli.cli.provider import _first_time
from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.hardware.choice import ProviderState
from lmsupply_cli.locks import is_held
from lmsupply_cli.repl.attach import attach_files
from lmsupply_cli.repl.commands.saved import _export

NOBODY = "~no-such-user/x.md"


@pytest.fixture
def denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files may not even be looked at, as below another user's private folder."""
    folder, stat = tmp_path / "denied", Path.stat

    def refused(self: Path, **how: Any) -> Any:
        if folder == self or folder in self.parents:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **how)

    monkeypatch.setattr(Path, "stat", refused)
    return folder


def chat(confirm: bool = True) -> Any:
    generator = SimpleNamespace(info=SimpleNamespace(ref="guide"))
    session = SimpleNamespace(messages=[ChatMessage.user("hello")], generator=generator)
    return SimpleNamespace(session=session, confirm=lambda _: confirm, say=lambda _: None)


def test_saved_chats_that_may_not_be_looked_at_are_not_there(denied: Path) -> None:
    archive = Archive(denied)
    assert archive.find().chats == []
    with pytest.raises(UsageError, match="there is no chat named 'x'"):
        archive.load("x")
    assert not is_held(denied / "x.lock")


def test_a_note_that_cannot_be_remembered_is_given_each_time(denied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSUPPLY_HOME", str(denied))
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert _first_time(ProviderState("cuda", False, "no driver", "install it"))
    assert _first_time(ProviderState("cuda", False, "no driver", "install it"))


@pytest.mark.parametrize("name", [NOBODY, "a" * 300 + ".md", "missing/x.md"])
def test_an_export_that_cannot_be_written_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot write"):
        _export(chat(), name)
    assert list(tmp_path.iterdir()) == []


def test_an_export_into_a_denied_folder_is_one_line(denied: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        _export(chat(), str(denied / "x.md"))


def test_a_failed_export_leaves_the_file_that_it_would_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.md"
    file.write_text("before")
    _export(chat(confirm=False), str(file))
    assert file.read_text() == "before"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        _export(chat(), str(file))
    assert [path.name for path in tmp_path.iterdir()] == ["x.md"]
    assert file.read_text() == "before"
    monkeypatch.undo()
    _export(chat(), str(file))
    assert "hello" in file.read_text()


@pytest.mark.parametrize("option", ["--json-schema", "--grammar", "--file", "--batch"])
def test_a_file_in_the_home_of_nobody_is_named(option: str, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out.jsonl")) if option == "--batch" else ("thanks",)
    result = lmsupply("run", "-m", "guide", option, NOBODY, *out)
    assert result.code == 2
    assert "~no-such-user/x.md: No such file or directory" in result.err


def test_a_message_may_name_a_file_in_the_home_of_nobody() -> None:
    assert attach_files(f"read @{NOBODY}").missing == (NOBODY,)


def test_a_model_in_the_home_of_nobody_is_named() -> None:
    with pytest.raises(LmsupplyError, match="no-such-user"):
        TextGeneratorBuilder().with_model_path("~no-such-user/m").build()


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "message", "role": "user", "content": null}',
        '{"type": "message", "role": [], "content": {}}',
        '{"type": "said", "text": 5, "reasoning": []}',
        '{"type": "set", "key": [], "value": 1}',
        '{"type": "model", "ref": null}',
        '{"type": "keep", "count": true}',
        '{"type": "keep", "count": -1}',
    ],
)
def test_a_damaged_line_of_a_chat_is_nothing_that_anybody_said(line: str, tmp_path: Path) -> None:
    said = '{"type": "message", "role": "user", "content": "hello"}'
    (tmp_path / "x.jsonl").write_text(f'{{"type": "session", "schema": 1, "model": "guide"}}\n{said}\n{line}\n')
    found = Archive(tmp_path).load("x")
    assert (found.messages, found.options, found.model) == ([ChatMessage.user("hello")], {}, "guide")
