"""The last exchange of `lmsupply run`, kept so that `run --continue` can continue it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmsupply_cli import paths
from lmsupply_cli.chat.messages import ChatMessage, ChatRole, as_messages
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.files import read_json, write_json
from lmsupply_cli.units import shortened

if TYPE_CHECKING:
    from lmsupply_cli.chats.archive import Archive

SCHEMA = 1
_LIMIT_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, including the system prompt, and the ref of the model that answered last."""

    model: str
    messages: tuple[ChatMessage, ...]

    @property
    def title(self) -> str:
        """The start of the user's last message."""
        asked = next((m.content for m in reversed(self.messages) if m.role is ChatRole.USER), "")
        return shortened(asked, 60)


def last_run_file() -> Path:
    """Only its owner can read it."""
    return paths.state_dir() / "runs" / "last.json"


def remember_run(model: str, messages: Sequence[ChatMessage]) -> None:
    """Raises FileError if the state folder cannot be written."""
    rows = [message.as_dict() for message in messages]
    write_json(last_run_file(), {"schema": SCHEMA, "model": model, "messages": rows}, private=True)


def last_conversation(archive: Archive) -> Conversation | None:
    """The last run or the last saved chat, whichever is newer."""
    from lmsupply_cli.chats.archive import changed_s

    chat, run_s = archive.latest(), changed_s(last_run_file())
    if chat and chat.changed >= run_s:
        return Conversation(chat.model, tuple(chat.messages))
    return _last_run() if run_s else None


def _last_run() -> Conversation | None:
    with suppress(LmsupplyError, KeyError, TypeError):
        data = read_json(last_run_file(), limit_bytes=_LIMIT_BYTES)
        if data["schema"] == SCHEMA and isinstance(data["model"], str):
            return Conversation(data["model"], tuple(as_messages(data["messages"])))
    return None
