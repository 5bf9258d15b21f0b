"""Read a line, answer it, again: nothing that is typed, and no failure of a turn, ends the chat."""

from __future__ import annotations

from typing import Protocol

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.render.flags import named_by_place
from lmsupply_cli.repl.attach import attach_files
from lmsupply_cli.repl.chat import Chat, without_control
from lmsupply_cli.repl.command import find_command
from lmsupply_cli.repl.commands import NAMES
from lmsupply_cli.repl.parameters import PARAMETERS


class LineReader(Protocol):
    def read(self, chat: Chat) -> str:
        """One message. Raises KeyboardInterrupt for Ctrl-C and EOFError for Ctrl-D."""


class ChatLoop:
    def __init__(self, chat: Chat, reader: LineReader) -> None:
        self._chat, self._reader = chat, reader

    def run(self) -> None:
        """Until /bye or Ctrl-D."""
        chat = self._chat
        try:
            with named_by_place(dict.fromkeys(PARAMETERS, "chat")):
                while not chat.done:
                    try:
                        line = self._reader.read(chat)
                    except KeyboardInterrupt:
                        chat.say("Ctrl-D or /bye quits.")
                        continue
                    except EOFError:
                        break
                    self._guarded(line)
        finally:
            chat.keeper.close()
        chat.say("Bye.")

    def _guarded(self, line: str) -> None:
        chat = self._chat
        try:
            self._take(without_control(line))
        except KeyboardInterrupt:
            chat.say_aside("(stopped)")
        except LmsupplyError as error:
            chat.say_error(error)
        except Exception as error:
            if chat.world.debug:
                raise
            chat.say_error(LmsupplyError(f"{type(error).__name__}: {error}", hint="this is a bug; --debug shows where"))

    def _take(self, line: str) -> None:
        chat = self._chat
        if not line.strip():
            return
        found = find_command(line.strip(), NAMES)
        if found is None:
            attached = attach_files(line)
            for name in attached.missing:
                chat.note(f"@{name} not found; sent as plain text")
            chat.ask(attached.text)
            return
        command, rest = found
        if reason := command.unavailable(chat):
            chat.say(reason)
            return
        command.handler(chat, rest)
