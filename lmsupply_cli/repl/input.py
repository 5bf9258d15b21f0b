"""The line that is typed: several lines, history, suggestions, completion, a bar below."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.repl.editor import edit_text

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop

BLOCK = '"""'


class LineReader(Protocol):
    def read(self, loop: ChatLoop) -> str:
        """One message. Raises KeyboardInterrupt for Ctrl-C and EOFError for Ctrl-D."""


class TerminalReader:
    """Enter sends, but not inside an open block of triple quotes; a pasted block arrives as one message."""

    def __init__(self, *, color: bool, history: Path | None) -> None:
        """`history`: the file of the lines that were typed; None keeps them only while the chat lasts."""
        self._color, self._history = color, history
        self._session: Any = None

    def read(self, loop: ChatLoop) -> str:
        if self._session is None:
            self._session = self._make(loop)
        text: str = self._session.prompt(
            lambda: loop.prompt(), prompt_continuation="... ", bottom_toolbar=_bar(loop), refresh_interval=None
        )
        return unquoted(text)

    def _make(self, loop: ChatLoop) -> Any:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.output import ColorDepth
        from prompt_toolkit.styles import Style

        from lmsupply_cli.repl.completer import ChatCompleter

        return PromptSession(
            multiline=True,
            key_bindings=_bindings(loop),
            completer=ChatCompleter(loop),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            history=private_history(self._history) if self._history else InMemoryHistory(),
            color_depth=None if self._color else ColorDepth.DEPTH_1_BIT,
            style=Style.from_dict({"bottom-toolbar": "noreverse fg:ansibrightblack"}),
            reserve_space_for_menu=4,
        )


def unquoted(text: str) -> str:
    """Without the triple quotes around a block."""
    stripped = text.strip()
    if stripped.startswith(BLOCK):
        inner = stripped[len(BLOCK) :]
        return inner.removesuffix(BLOCK).strip("\n")
    return text


def is_open_block(text: str) -> bool:
    stripped = text.strip()
    return stripped.startswith(BLOCK) and not (len(stripped) >= 2 * len(BLOCK) and stripped.endswith(BLOCK))


def private_history(path: Path) -> Any:
    """Readable by its owner alone; lines that cannot be read or written are kept while the chat lasts."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class PrivateHistory(FileHistory):
        def load_history_strings(self) -> list[str]:
            try:
                return list(super().load_history_strings())
            except (OSError, ValueError):
                return []

        def store_string(self, string: str) -> None:
            with suppress(OSError, ValueError):
                super().store_string(string)

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        if os.name == "posix":
            path.chmod(0o600)
    except OSError:
        return InMemoryHistory()
    return PrivateHistory(str(path))


def _bindings(loop: ChatLoop) -> Any:
    from prompt_toolkit.application import run_in_terminal
    from prompt_toolkit.application.current import get_app
    from prompt_toolkit.filters import Condition, is_searching
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    in_block = Condition(lambda: is_open_block(get_app().current_buffer.text))

    @bindings.add("enter", filter=~in_block)
    def _send(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _newline(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g", filter=~is_searching)
    def _editor(event: Any) -> None:
        buffer = event.current_buffer

        def edit() -> None:
            try:
                text = edit_text(buffer.text, loop.environ)
            except LmsupplyError as error:
                loop.say(f"error: {error.message}")
                return
            buffer.text = text.rstrip("\n")
            buffer.cursor_position = len(buffer.text)

        run_in_terminal(edit)

    return bindings


def _bar(loop: ChatLoop) -> Callable[[], str]:
    return lambda: loop.bar()
