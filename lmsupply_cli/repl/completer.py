"""What Tab offers: commands, their arguments, files after @ and where a command takes one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from lmsupply_cli.repl.commands import NAMES

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop

_AT = re.compile(r"(?:^|\s)@(\S*)$")


class ChatCompleter(Completer):
    def __init__(self, loop: ChatLoop) -> None:
        self._loop = loop
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if before.startswith("/") and "\n" not in before:
            yield from self._command(before, complete_event)
        elif match := _AT.search(before):
            yield from self._path(match.group(1), complete_event)

    def _command(self, before: str, event: CompleteEvent) -> Iterable[Completion]:
        name, space, rest = before.partition(" ")
        if not space:
            for known, command in NAMES.items():
                if known.startswith(name.lower()) and not command.lacks(self._loop):
                    yield Completion(known, start_position=-len(name), display_meta=command.help)
            return
        command = NAMES.get(name.lower())  # type: ignore[assignment]
        if command is None:
            return
        if command.path:
            yield from self._path(rest, event)
        elif command.complete is not None:
            for found in command.complete(self._loop, rest):
                yield Completion(found, start_position=-len(rest))

    def _path(self, typed: str, event: CompleteEvent) -> Iterable[Completion]:
        yield from self._paths.get_completions(Document(typed, len(typed)), event)
