"""The commands of the chat, in the order of /help."""

from __future__ import annotations

from lmsupply_cli.repl.command import Command
from lmsupply_cli.repl.commands.leaving import LEAVING
from lmsupply_cli.repl.commands.models import MODELS
from lmsupply_cli.repl.commands.saved import SAVED
from lmsupply_cli.repl.commands.settings import SETTINGS_COMMANDS
from lmsupply_cli.repl.commands.showing import SHOWING
from lmsupply_cli.repl.commands.turns import TURNS

COMMANDS: tuple[Command, ...] = (*TURNS, *SETTINGS_COMMANDS, *SHOWING, *MODELS, *SAVED, *LEAVING)
NAMES: dict[str, Command] = {name: command for command in COMMANDS for name in command.names}


def help_rows() -> list[tuple[str, str]]:
    """(names and usage, what it does) of each command."""
    return [(" ".join((*command.names, command.usage)).strip(), command.help) for command in COMMANDS]
