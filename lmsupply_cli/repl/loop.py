"""Read a line, answer it, again: nothing that is typed, and no failure of a turn, ends the chat."""

from __future__ import annotations

from collections.abc import Callable

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import Finished
from lmsupply_cli.render.answer import show_answer
from lmsupply_cli.render.stream import TextStream
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.repl.command import find_command
from lmsupply_cli.repl.input import LineReader
from lmsupply_cli.runtime.session import ChatSession
from lmsupply_cli.units import format_rate, format_seconds


class ChatLoop:
    def __init__(
        self,
        session: ChatSession,
        reader: LineReader,
        terminal: Terminal,
        make_stream: Callable[[], TextStream],
        *,
        show_stats: bool = False,
    ) -> None:
        self.session = session
        self.show_stats = show_stats
        self.done = False
        self._reader, self._terminal, self._make_stream = reader, terminal, make_stream

    def run(self) -> None:
        """Until /bye or Ctrl-D."""
        while not self.done:
            try:
                line = self._reader.read()
            except KeyboardInterrupt:
                self.say("Ctrl-D or /bye leaves the chat.")
                continue
            except EOFError:
                break
            try:
                self._take(line)
            except LmsupplyError as error:
                self.say(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
        self.say("Bye.")

    def say(self, text: str) -> None:
        self._terminal.say(text)

    def _take(self, line: str) -> None:
        if not line.strip():
            return
        found = find_command(line.strip())
        if found:
            command, rest = found
            command.handler(self, rest)
        else:
            self._answer(line)

    def _answer(self, text: str) -> None:
        events = self.session.send(text)
        try:
            finished = show_answer(events, self._make_stream(), self._terminal.status(), notice=self._terminal.notice)
        except KeyboardInterrupt:
            events.close()
            self.say("(stopped; what was said stays in the chat)\n")
            return
        if finished.finish_reason == "length":
            self.say(f"(cut after {finished.usage.completion_tokens} tokens; --max-tokens sets the limit)")
        if self.show_stats:
            self.say(_stats_line(finished))
        self.say("")


def _stats_line(finished: Finished) -> str:
    usage, timings = finished.usage, finished.timings
    read = usage.prompt_tokens - usage.cached_tokens
    return (
        f"({usage.cached_tokens} tokens cached, {read} read, first token after {format_seconds(timings.ttft_s)}, "
        f"{usage.completion_tokens} written at {format_rate(usage.completion_tokens, timings.decode_s)})"
    )
