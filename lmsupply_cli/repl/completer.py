"""What Tab offers: commands, their arguments, files after @ and where a command takes one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.commands import COMMANDS, NAMES

_AT = re.compile(r"(?:^|\s)@(\S*)$")


class ChatCompleter(Completer):
    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if before.startswith("/") and "\n" not in before:
            yield from self._command(before, complete_event)
        elif match := _AT.search(before):
            yield from self._path(match.group(1), complete_event)

    def _command(self, before: str, event: CompleteEvent) -> Iterable[Completion]:
        typed, space, rest = before.partition(" ")
        if not space:
            for command in COMMANDS:
                names = [name for name in command.names if name.startswith(typed.lower())]
                if names and not command.unavailable(self._chat):
                    for name in names:
                        yield Completion(name, start_position=-len(typed), display_meta=command.help)
            return
        called = NAMES.get(typed.lower())
        if called is None:
            return
        if called.path:
            yield from self._path(rest, event)
        elif called.complete is not None:
            for found in called.complete(self._chat, rest):
                yield Completion(found, start_position=-len(rest))

    def _path(self, typed: str, event: CompleteEvent) -> Iterable[Completion]:
        yield from self._paths.get_completions(Document(typed, len(typed)), event)
