"""/help and /bye."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmsupply_cli.repl.command import Command

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop

_KEYS = (
    ("Alt-Enter", "a new line"),
    ('"""', "begins and ends a message of several lines"),
    ("@path", "in a message includes that file"),
    ("Ctrl-G", "opens the line in $EDITOR"),
    ("Up, Ctrl-R", "earlier lines"),
    ("Ctrl-C", "stops an answer"),
    ("Ctrl-D", "leaves"),
)


def _help(loop: ChatLoop, rest: str) -> None:
    from lmsupply_cli.repl.commands import COMMANDS, help_rows

    if rest:
        name = "/" + rest.lstrip("/").split()[0].lower()
        found = [row for row, command in zip(help_rows(), COMMANDS, strict=True) if name in command.names]
        if found:
            loop.say_rows(found)
            return
    loop.say_rows([*help_rows(), *_KEYS])


def _bye(loop: ChatLoop, _: str) -> None:
    loop.done = True


LEAVING = (
    Command(("/help", "/?"), "[COMMAND]", "show the commands", _help),
    Command(("/bye", "/exit", "/quit"), "", "leave the chat", _bye),
)
