"""Read a line, answer it, again: nothing that is typed, and no failure of a turn, ends the chat."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chats.archive import Archive, Recorder, SavedChat
from lmsupply_cli.chats.session import ChatSession, SessionListener
from lmsupply_cli.config.values import as_text
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.errors import FileError, LmsupplyError, UsageError
from lmsupply_cli.events import Finished, GenerationEvent
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.render.answer import show_answer
from lmsupply_cli.render.sheet import say_sheet
from lmsupply_cli.render.stream import TextStream, ThoughtStream
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.repl.attach import attach_files
from lmsupply_cli.repl.command import find_command
from lmsupply_cli.repl.commands import NAMES
from lmsupply_cli.repl.input import LineReader
from lmsupply_cli.repl.parameters import set_parameter
from lmsupply_cli.units import count, format_rate, format_seconds

_FULL = 0.5  # of the context is used: from here on the prompt says how much


@dataclass(frozen=True)
class World:
    """What the chat needs from outside. `prepare` checks a model and gives what loads it; `debug` lets bugs through."""

    prepare: Callable[[str], Callable[[], TextGenerator]]
    model_names: Callable[[], Iterable[str]]
    license_text: Callable[[ModelInfo], str]
    make_stream: Callable[[], TextStream]
    environ: Mapping[str, str]
    debug: bool = False


class ChatLoop:
    def __init__(
        self,
        session: ChatSession[TextGenerator],
        reader: LineReader,
        terminal: Terminal,
        world: World,
        archive: Archive,
        *,
        keep: bool = True,
        show_stats: bool = False,
        think: str = "on",
    ) -> None:
        """`keep`: write the chat to the archive as it goes."""
        self.session, self.archive = session, archive
        self.show_stats, self.think, self.done = show_stats, think, False
        self.environ = world.environ
        self._reader, self._terminal, self._world, self._keep = reader, terminal, world, keep
        self._recorder: Recorder | None = None
        self._lost = ""  # why this chat is not saved although it should be
        self._options: dict[str, Any] = {}
        self._rate = ""
        self._record_afresh()

    def run(self) -> None:
        """Until /bye or Ctrl-D."""
        try:
            while not self.done:
                try:
                    line = self._reader.read(self)
                except KeyboardInterrupt:
                    self.say("Ctrl-D or /bye leaves the chat.")
                    continue
                except EOFError:
                    break
                self._guarded(line)
        finally:
            if self._recorder:
                self._recorder.close()
        self.say("Bye.")

    def say(self, text: str) -> None:
        self._terminal.say(text)

    def say_rows(self, rows: Sequence[tuple[str, str]]) -> None:
        say_sheet(self._terminal, rows)

    def confirm(self, question: str) -> bool:
        return self._terminal.ask(question)

    # the line

    def prompt(self) -> str:
        """`>>> `, with the tokens in use where they are more than half of the context."""
        used, total = self.session.generator.cached_tokens, self.session.generator.context_tokens
        return f"[{used:,}/{total:,}] >>> " if used > _FULL * total else ">>> "

    def bar(self) -> str:
        """Model, provider, use of the context, rate: as much as the width holds."""
        generator = self.session.generator
        parts = [
            generator.info.ref.replace("\\", "/").rsplit("/", 1)[-1],
            generator.info.provider,
            f"{generator.cached_tokens:,}/{generator.context_tokens:,} tokens",
            self._rate,
        ]
        text = ""
        for part in filter(None, parts):
            longer = f"{text} · {part}" if text else part
            if len(longer) >= self._terminal.width:
                break
            text = longer
        return text

    # answers

    def ask(self, text: str, *, keep: Sequence[ChatMessage] | None = None) -> None:
        """Send a message; `keep`: the history to go back to where it gets no answer."""
        before = list(self.session.messages)
        try:
            self.show(self.session.send(text))
        finally:
            if keep is not None and self.session.messages == before:
                self.session.restore(keep)

    def show(self, events: Generator[GenerationEvent]) -> None:
        before = list(self.session.messages)
        terminal = self._terminal
        color = terminal.color and not terminal.dumb
        thoughts = ThoughtStream(terminal.stdout, terminal=True, color=color) if self.think == "on" else None
        try:
            finished = show_answer(
                events, self._world.make_stream(), terminal.status(), notice=terminal.notice, thoughts=thoughts
            )
        except KeyboardInterrupt:
            events.close()
            stays = self.session.messages != before
            self.say(
                "(stopped; what was said stays in the chat)\n"
                if stays
                else "(stopped before there was an answer; the message is taken back)\n"
            )
            return
        self._rate = format_rate(finished.usage.completion_tokens, finished.timings.decode_s)
        if finished.finish_reason == "length":
            self.say(
                f"(cut after {count(finished.usage.completion_tokens, 'token')}; /continue resumes, "
                "/set parameter max_tokens sets the limit)"
            )
        if self.show_stats:
            self.say(_stats_line(finished))
        self.say("")

    def set_think(self, mode: str) -> str:
        """What could not be done, "" where all could."""
        self.session.prompter, refused = self.session.prompter.with_thinking(mode != "off")
        self.think = mode
        return refused

    # the model

    def model_names(self) -> Iterable[str]:
        return self._world.model_names()

    def license_text(self, info: ModelInfo) -> str:
        return self._world.license_text(info)

    def change_model(self, ref: str) -> None:
        """Go on with another model; where it cannot be loaded, the one before is loaded again. Raises LmsupplyError."""
        load, back = self._world.prepare(ref), self._world.prepare(self.session.generator.info.ref)
        self.session.generator.close()
        try:
            self.session.use(load())
        except BaseException:
            self.say("The model before is loaded again …")
            self.session.use(back())
            raise
        info = self.session.generator.info
        self._apply(self._options)
        self._record(lambda recorder: recorder.set_model(info.ref))
        self.say(f"{info.ref} on {info.provider}, context {self.session.generator.context_tokens:,} tokens.")
        self._say_reread()

    def keep_option(self, key: str, value: Any) -> None:
        self._options[key] = value
        self._record(lambda recorder: recorder.set_option(key, list(value) if isinstance(value, tuple) else value))

    def set_format(self, guidance: Guidance | None) -> None:
        """What answers follow from the next one on. Raises UsageError for what cannot be followed."""
        if guidance:
            check_guidance(guidance)
        self.session.guidance = guidance
        self._record(lambda recorder: recorder.set_format(guidance))

    # saved chats

    def chat_name(self) -> str:
        """ "" where the chat is not kept."""
        return self._recorder.name if self._recorder else ""

    @property
    def not_kept(self) -> str:
        if self._lost:
            return f"this chat cannot be saved: {self._lost}"
        return "" if self._recorder else "this chat is not kept (--no-save, or the setting save_sessions)"

    def begin_afresh(self) -> None:
        """A new chat; the one before stays saved."""
        self._record_afresh()
        self.session.clear()

    def save_as(self, name: str) -> str:
        """Name the chat, or say its name. Raises UsageError."""
        assert self._recorder is not None
        if name:
            self._recorder.rename(name)
            return f"This chat is {name} now; lmsupply chat --resume {_quoted(name)} goes on with it."
        return f"This chat is kept as {self._recorder.name}; /save NAME names it."

    def go_on(self, chat: SavedChat) -> None:
        """Go on with a saved chat. Raises UsageError where another window has it open."""
        if self._recorder and chat.name == self._recorder.name:
            self.say("This is that chat.")
            return
        if self._keep:
            recorder = Recorder(self.archive, chat.name, model=chat.model)
            failure = _failure(lambda: recorder.go_on(chat))
            if self._recorder:
                self._recorder.close()
            self._recorder, self._lost = recorder, ""
            if failure:
                self._lose(failure)
            elif chat.model != self.session.generator.info.ref:
                self._record(lambda recorder: recorder.set_model(self.session.generator.info.ref))
        self.session.listener = SessionListener()  # what is restored is in the file already
        self.session.restore(chat.messages)
        self.session.listener = _Recording(self._record)
        self._options = {}
        self._apply(chat.options)
        self.session.guidance = None
        try:
            self.set_format(chat.guidance)
        except LmsupplyError as error:
            self.say(f"note: the format of the answers is left out: {error.message}")
        self.say(f"Going on with {chat.name}: {len(chat.messages)} messages.")
        if self.session.guidance:
            self.say(f"Answers follow a {self.session.guidance.name}; /format off frees them.")
        for message in chat.messages[-2:]:
            mark = "…" if message.partial else ""
            self.say(f"  {message.role}: {_shortened(message.content)}{mark}")
        self._say_reread()

    def _say_reread(self) -> None:
        cost = self.session.next_prompt_cost()
        read = cost.prompt_tokens - cost.cached_tokens
        if read > 0:
            self.say(f"The next answer reads about {read:,} tokens of it again.")

    def _apply(self, options: Mapping[str, Any]) -> None:
        """Options that were set in the chat; one that this model cannot have is said and left out."""
        for key, value in options.items():
            text = as_text(value)
            try:
                set_parameter(self, key, text)
            except LmsupplyError as error:
                self.say(f"note: {key} {value} is left out: {error.message}")

    def _record_afresh(self) -> None:
        if self._recorder:
            self._recorder.close()
        self._lost = ""
        if self._keep:
            self._recorder = Recorder(self.archive, model=self.session.generator.info.ref)
            for key, value in self._options.items():
                self._recorder.set_option(key, value)
            self._recorder.set_format(self.session.guidance)
        self.session.listener = _Recording(self._record)

    def _record(self, act: Callable[[Recorder], None]) -> None:
        """Write to the saved chat. What fails there takes no answer with it: it is said once, and the chat continues."""
        recorder = self._recorder
        if recorder and (failure := _failure(lambda: act(recorder))):
            self._lose(failure)

    def _lose(self, failure: str) -> None:
        if self._recorder:
            self._recorder.close()
        self._recorder, self._lost = None, failure
        self.say(f"note: this chat can no longer be saved: {failure}")

    # a line

    def _guarded(self, line: str) -> None:
        try:
            self._take(line)
        except KeyboardInterrupt:
            self.say("(stopped)")
        except LmsupplyError as error:
            self.say(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
        except Exception as error:
            if self._world.debug:
                raise
            self.say(f"error: {type(error).__name__}: {error}\nhint: this is a bug; --debug shows where")

    def _take(self, line: str) -> None:
        if not line.strip():
            return
        found = find_command(line.strip(), NAMES)
        if found:
            command, rest = found
            if missing := command.lacks(self):
                raise UsageError(f"{command.names[0]} cannot be used: {missing}")
            command.handler(self, rest)
            return
        attached = attach_files(line)
        for name in attached.missing:
            self.say(f"note: @{name} is no file here; it is sent as it is written")
        self.ask(attached.text)


class _Recording(SessionListener):
    """Tells the saved chat what the session says, where there is one."""

    def __init__(self, record: Callable[[Callable[[Recorder], None]], None]) -> None:
        self._record = record

    def messages(self, messages: Sequence[ChatMessage]) -> None:
        self._record(lambda recorder: recorder.messages(messages))

    def said(self, text: str, reasoning: str) -> None:
        self._record(lambda recorder: recorder.said(text, reasoning))


def _failure(act: Callable[[], None]) -> str:
    """What kept a record from being written, "" for nothing. Raises UsageError: another window has the chat open."""
    try:
        act()
    except FileError as error:
        return error.message
    return ""


def _stats_line(finished: Finished) -> str:
    usage, timings = finished.usage, finished.timings
    read = usage.prompt_tokens - usage.cached_tokens
    stats = finished.speculative
    drafted = f", {stats.accepted} of {stats.proposed} draft tokens accepted" if stats else ""
    return (
        f"({usage.cached_tokens} tokens cached, {read} read, first token after {format_seconds(timings.ttft_s)}, "
        f"{usage.completion_tokens} written at {format_rate(usage.completion_tokens, timings.decode_s)}{drafted})"
    )


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else line[:69] + "…"


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name
