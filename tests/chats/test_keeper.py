"""A chat is saved as it goes; what fails there is told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chats.archive import Archive, read_chat
from lmsupply_cli.chats.keeper import ChatKeeper
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import UsageError

ASKED = [ChatMessage.user("hello")]


def test_a_new_chat_has_the_settings_that_hold(tmp_path: Path) -> None:
    keeper = ChatKeeper(Archive(tmp_path), enabled=True, on_loss=pytest.fail)
    keeper.start("guide", {"stop": ("a", "b"), "seed": 7}, Guidance.json())
    assert keeper.unavailable is None
    assert list(tmp_path.iterdir()) == [], "nothing is written before the first message"
    keeper.messages(ASKED)
    saved = read_chat(tmp_path / f"{keeper.name}.jsonl")
    assert saved.options == {"stop": ["a", "b"], "seed": 7}
    assert saved.guidance == Guidance.json()
    assert saved.model == "guide"
    keeper.close()
    assert keeper.name == ""


def test_nothing_is_kept_where_it_is_switched_off(tmp_path: Path) -> None:
    keeper = ChatKeeper(Archive(tmp_path), enabled=False, on_loss=pytest.fail)
    keeper.start("guide", {}, None)
    keeper.messages(ASKED)
    keeper.said("x", "")
    assert keeper.name == ""
    assert keeper.unavailable == "This chat is not saved (--no-save, or the setting save_sessions)."
    assert list(tmp_path.iterdir()) == []


def test_a_loss_is_told_once_and_a_new_chat_tries_again(tmp_path: Path) -> None:
    losses: list[str] = []
    folder = tmp_path / "sessions"
    folder.write_text("a file where a folder should be")
    keeper = ChatKeeper(Archive(folder), enabled=True, on_loss=losses.append)
    keeper.start("guide", {}, None)
    keeper.messages(ASKED)
    keeper.messages([*ASKED, ChatMessage.assistant("Hi")])
    assert len(losses) == 1
    assert keeper.unavailable == f"This chat cannot be saved: {losses[0]}"
    folder.unlink()
    keeper.start("guide", {}, None)
    keeper.messages(ASKED)
    assert keeper.unavailable is None
    assert Archive(folder).names() == [keeper.name]
    keeper.close()


def test_the_model_of_a_chat_changes_with_the_first_answer_of_another(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    keeper = ChatKeeper(archive, enabled=True, on_loss=pytest.fail)
    keeper.start("guide", {}, None)
    keeper.messages(ASKED)
    name = keeper.name
    keeper.close()
    keeper.resume(archive.load(name))
    keeper.set_model("guide")
    assert "model" not in [
        row.partition('"type": "')[2][:5] for row in (tmp_path / f"{name}.jsonl").read_text().split("\n")
    ]
    keeper.set_model("other")
    assert archive.load(name).model == "other"
    other = ChatKeeper(archive, enabled=True, on_loss=pytest.fail)
    with pytest.raises(UsageError, match="is open in another window"):
        other.resume(archive.load(name))
    keeper.close()
