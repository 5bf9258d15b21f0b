"""The line that is typed: editing, history of this chat, completion of commands."""

from __future__ import annotations

from typing import Protocol

from lmsupply_cli.repl.command import NAMES


class LineReader(Protocol):
    def read(self) -> str:
        """One message. Raises KeyboardInterrupt for Ctrl-C and EOFError for Ctrl-D."""


class TerminalReader:
    """A pasted block arrives as one message."""

    def __init__(self, *, colour: bool) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.output import ColorDepth

        self._session: PromptSession[str] = PromptSession(
            completer=WordCompleter(sorted(NAMES), sentence=True),
            complete_while_typing=False,
            color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
        )

    def read(self) -> str:
        return self._session.prompt(">>> ", prompt_continuation="... ")
