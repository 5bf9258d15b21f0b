"""The commands of the chat, in the order of /help."""

from __future__ import annotations

from lmsupply_cli.repl.command import Command
from lmsupply_cli.repl.commands.answers import ANSWERS
from lmsupply_cli.repl.commands.info import INFO, help_command, help_rows_of
from lmsupply_cli.repl.commands.model import MODEL
from lmsupply_cli.repl.commands.saved import SAVED
from lmsupply_cli.repl.commands.settings import SETTINGS_COMMANDS
from lmsupply_cli.repl.commands.tools import TOOLS
from lmsupply_cli.repl.commands.turns import TURNS

COMMANDS: tuple[Command, ...] = (
    *TURNS,
    *ANSWERS,
    *SETTINGS_COMMANDS,
    *TOOLS,
    *MODEL,
    *SAVED,
    help_command(lambda: COMMANDS),
    *INFO,
)
NAMES: dict[str, Command] = {name: command for command in COMMANDS for name in (*command.names, *command.synonyms)}


def help_rows() -> list[tuple[str, str]]:
    """(names and usage, what it does) of each command."""
    return help_rows_of(COMMANDS)
