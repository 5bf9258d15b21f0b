"""ChatKeeper: saves a chat as it goes, for as long as that works."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chats.archive import Archive, Recorder, SavedChat
from lmsupply_cli.chats.session import SessionListener
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import FileError


class ChatKeeper(SessionListener):
    """Saves what a session reports. If the chat cannot be written, no answer is lost: `on_loss` gets the reason
    once, and the chat continues unsaved."""

    def __init__(self, archive: Archive, *, enabled: bool, on_loss: Callable[[str], None]) -> None:
        """`enabled`: False saves nothing."""
        self._archive, self._enabled, self._on_loss = archive, enabled, on_loss
        self._recorder: Recorder | None = None
        self._lost = ""  # why this chat is not saved although it should be

    @property
    def name(self) -> str:
        """Name of the saved chat; "" if the chat is not saved."""
        return self._recorder.name if self._recorder else ""

    @property
    def unavailable(self) -> str | None:
        """Why the chat is not saved; None for one that is."""
        if self._lost:
            return f"This chat cannot be saved: {self._lost}"
        return None if self._recorder else "This chat is not saved (--no-save, or the setting save_sessions)."

    def start(self, model: str, options: Mapping[str, Any], guidance: Guidance | None) -> None:
        """A new chat; the one before stays saved."""
        self.close()
        self._lost = ""
        if self._enabled:
            self._recorder = Recorder(self._archive, model=model)
            for key, value in options.items():
                self.set_option(key, value)
            self.set_format(guidance)

    def resume(self, chat: SavedChat) -> None:
        """Write to a saved chat from now on. Raises UsageError if another window has it open."""
        if not self._enabled:
            return
        recorder = Recorder(self._archive, chat.name, model=chat.model)
        failure = _failure(lambda: recorder.resume(chat))
        self.close()
        self._recorder, self._lost = recorder, ""
        if failure:
            self._lose(failure)

    def rename(self, name: str) -> None:
        """Raises UsageError for a name that is taken or invalid."""
        assert self._recorder is not None
        self._recorder.rename(name)

    def close(self) -> None:
        if self._recorder:
            self._recorder.close()
        self._recorder = None

    def messages(self, messages: Sequence[ChatMessage]) -> None:
        self._record(lambda recorder: recorder.messages(messages))

    def said(self, text: str, reasoning: str) -> None:
        self._record(lambda recorder: recorder.said(text, reasoning))

    def set_option(self, key: str, value: Any) -> None:
        self._record(lambda recorder: recorder.set_option(key, list(value) if isinstance(value, tuple) else value))

    def set_format(self, guidance: Guidance | None) -> None:
        self._record(lambda recorder: recorder.set_format(guidance))

    def set_model(self, ref: str) -> None:
        self._record(lambda recorder: recorder.set_model(ref))

    def _record(self, act: Callable[[Recorder], None]) -> None:
        recorder = self._recorder
        if recorder and (failure := _failure(lambda: act(recorder))):
            self._lose(failure)

    def _lose(self, failure: str) -> None:
        self.close()
        self._lost = failure
        self._on_loss(failure)


def _failure(act: Callable[[], None]) -> str:
    """Why the chat could not be written; "" if it was. Raises UsageError if another window has the chat open."""
    try:
        act()
    except FileError as error:
        return error.message
    return ""
