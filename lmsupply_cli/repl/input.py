"""The line that is typed: several lines, history, suggestions, completion, a bar below."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.repl.chat import Chat

BLOCK = '"""'
_STYLE = {
    "prompt": "bold",
    "bottom-toolbar": "noreverse dim",
    "completion-menu": "bg:default fg:default",
    "completion-menu.completion": "bg:default fg:default",
    "completion-menu.completion.current": "bg:default fg:default reverse",
    "completion-menu.meta.completion": "bg:default fg:default dim",
    "completion-menu.meta.completion.current": "bg:default fg:default",
    "scrollbar.background": "bg:default",
    "scrollbar.button": "bg:default reverse",
}


class TerminalReader:
    """Enter sends, but not inside an open block of triple quotes; a pasted block arrives as one message."""

    def __init__(self, *, color: bool, history: Path | None) -> None:
        """`history`: the file of the lines that were typed; None keeps them only while the chat lasts."""
        self._color, self._history = color, history
        self._session: Any = None

    def read(self, chat: Chat) -> str:
        """Raises KeyboardInterrupt for Ctrl-C and EOFError for Ctrl-D."""
        if self._session is None:
            self._session = self._make(chat)
        text: str = self._session.prompt()
        return unquoted(text)

    def _make(self, chat: Chat) -> Any:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.output import ColorDepth
        from prompt_toolkit.styles import Style

        from lmsupply_cli.repl.completer import ChatCompleter

        return PromptSession(
            [("class:prompt", ">>> ")],
            prompt_continuation=_continuation,
            bottom_toolbar=chat.bar,
            multiline=True,
            enable_suspend=True,
            enable_history_search=True,
            key_bindings=_bindings(chat),
            completer=ChatCompleter(chat),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            history=private_history(self._history) if self._history else InMemoryHistory(),
            color_depth=None if self._color else ColorDepth.DEPTH_1_BIT,
            style=Style.from_dict(_STYLE),
            reserve_space_for_menu=4,
        )


def _continuation(width: int, line: int, wraps: int) -> str:
    """Dots mark a line that was typed; one that only wraps has none, for it would look like a line and be copied."""
    return "" if wraps else "... "


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


def go_through_history(buffer: Any, step: int) -> None:
    """To the next older (-1) or newer (1) line that begins as the line did before; a command only where that was `/`."""
    start = buffer.working_index
    while True:
        before = buffer.working_index
        (buffer.history_backward if step < 0 else buffer.history_forward)()
        if buffer.working_index == before:
            buffer.go_to_history(start)
            return
        if not buffer.text.startswith("/") or (buffer.history_search_text or "").startswith("/"):
            return


def _bindings(chat: Chat) -> Any:
    from prompt_toolkit.application import run_in_terminal
    from prompt_toolkit.application.current import get_app
    from prompt_toolkit.filters import Condition, has_completions, has_selection, is_searching
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()
    in_block = Condition(lambda: is_open_block(get_app().current_buffer.text))
    in_first_line = Condition(lambda: get_app().current_buffer.document.cursor_position_row == 0)
    in_last_line = Condition(lambda: get_app().current_buffer.document.on_last_line)
    plain = ~has_completions & ~has_selection & ~is_searching

    @bindings.add("enter", filter=~in_block)
    def _send(event: Any) -> None:
        event.current_buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def _newline(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("up", filter=plain & in_first_line)
    @bindings.add("c-p", filter=plain & in_first_line)
    def _older(event: Any) -> None:
        go_through_history(event.current_buffer, -1)

    @bindings.add("down", filter=plain & in_last_line)
    @bindings.add("c-n", filter=plain & in_last_line)
    def _newer(event: Any) -> None:
        go_through_history(event.current_buffer, 1)

    @bindings.add("c-g", filter=~is_searching)
    def _editor(event: Any) -> None:
        buffer = event.current_buffer

        def edit() -> None:
            try:
                text = chat.edit(buffer.text)
            except LmsupplyError as error:
                chat.say_error(error)
                return
            buffer.text = text
            buffer.cursor_position = len(text)

        run_in_terminal(edit)

    return bindings
