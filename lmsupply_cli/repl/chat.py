"""Chat: the session, its settings and the terminal, as the commands of the chat use them; no line editor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chats.archive import Archive, SavedChat
from lmsupply_cli.chats.keeper import ChatKeeper
from lmsupply_cli.chats.session import ChatSession, SessionListener
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.errors import ContextOverflow, LmsupplyError
from lmsupply_cli.events import Finished, GenerationEvent, Notice
from lmsupply_cli.generation.answers import ChatGenerator
from lmsupply_cli.generation.completion import ModelInfo, describe_cut
from lmsupply_cli.render.answer import TextStream, ThoughtStream, show_answer
from lmsupply_cli.render.fields import say_fields
from lmsupply_cli.render.flags import as_flags
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.repl.calls import run_calls
from lmsupply_cli.repl.editor import edit_text
from lmsupply_cli.repl.keys import quiet_keys
from lmsupply_cli.repl.parameters import change_parameter, parameter_key, value_text
from lmsupply_cli.store.locate import LocatedModel
from lmsupply_cli.toolbox.toolbox import Toolbox
from lmsupply_cli.units import count, format_rate, format_seconds, shortened

# C0 but tab and line feed, DEL, C1
_MOST_ROUNDS = 10  # of calls; a weak model repeats itself without end
_CONTROL = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


@dataclass(frozen=True)
class World:
    """What the chat needs from outside. `prepare` checks a model and gives what loads it; `debug` lets bugs through;
    `can_ask`: somebody can be asked whether a tool may run."""

    prepare: Callable[[str], Callable[[], ChatGenerator]]
    model_names: Callable[[], Iterable[str]]
    installed_models: Callable[[], Iterable[LocatedModel]]
    license_text: Callable[[ModelInfo], str]
    make_stream: Callable[[], TextStream]
    environ: Mapping[str, str]
    debug: bool = False
    toolbox: Toolbox = field(default_factory=Toolbox)
    can_ask: bool = True


class Chat:
    """One chat on one terminal. `done` ends it; `listed`: names of the saved chats that were listed last."""

    def __init__(
        self,
        session: ChatSession[ChatGenerator],
        terminal: Terminal,
        world: World,
        archive: Archive,
        *,
        keep: bool = True,
        show_stats: bool = False,
        think: str = "on",
    ) -> None:
        """`keep`: save the chat to the archive as it goes."""
        self.session, self.terminal, self.world, self.archive = session, terminal, world, archive
        self.show_stats, self.think, self.done = show_stats, think, False
        self.listed: Sequence[str] = ()
        self.keeper = ChatKeeper(
            archive, enabled=keep, on_loss=lambda why: self.note(f"this chat can no longer be saved: {why}")
        )
        self._options: dict[str, Any] = {}  # that were set in the chat
        self._first_context = session.context_tokens
        self._named = False  # whether the user gave the chat its name
        self._rate = ""
        self._counted: tuple[tuple[object, ...], int] | None = None  # what the chat consists of, and what it comes to
        self._told_of_form = False  # that this model has no form for tools
        self.update_tools()
        self._start_record()

    # what is said

    def say(self, text: str) -> None:
        self.terminal.say(text)

    def note(self, text: str) -> None:
        self.terminal.notice(Notice("chat", text))

    def say_aside(self, text: str) -> None:
        """A line about an answer."""
        self.terminal.aside(text)

    def say_rows(self, rows: Sequence[tuple[str, str]]) -> None:
        say_fields(self.terminal, rows)

    def say_error(self, error: LmsupplyError) -> None:
        hint = f"\nhint: {as_flags(error.hint)}" if error.hint else ""
        self.say(f"error: {as_flags(error.message)}{hint}")

    def confirm(self, question: str) -> bool:
        return self.terminal.ask(question)

    def edit(self, text: str) -> str:
        """What `text` became in the user's editor. Raises UsageError."""
        return without_control(edit_text(text, self.world.environ)).strip("\n")

    def bar(self) -> str:
        """Model, provider, use of the context, rate: as much as the width holds."""
        generator = self.session.generator
        parts = [
            generator.info.ref.replace("\\", "/").rsplit("/", 1)[-1],
            generator.info.provider,
            f"{self._used_tokens():,}/{generator.context_tokens:,} tokens",
            self._rate,
        ]
        text = ""
        for part in filter(None, parts):
            longer = f"{text} · {part}" if text else part
            if len(longer) >= self.terminal.width:
                break
            text = longer
        return text

    def _used_tokens(self) -> int:
        """Counted once for each state of the chat: the bar is drawn at every key."""
        state = (self.session.messages, self.session.prompter, self.session.tools)
        if self._counted is None or any(old is not new for old, new in zip(self._counted[0], state, strict=True)):
            try:
                tokens = self.session.used_tokens()
            except LmsupplyError:
                tokens = self.session.generator.cached_tokens
            self._counted = (state, tokens)
        return self._counted[1]

    # answers

    def ask(self, text: str, *, keep: Sequence[ChatMessage] | None = None) -> None:
        """Send a message; `keep`: the history to restore if there is no answer."""
        before = list(self.session.messages)
        self.update_tools()
        try:
            self.show(self.session.send(text))
        finally:
            if keep is not None and self.session.messages == before:
                self.session.restore(keep)

    def show(self, events: Generator[GenerationEvent], *, continues: bool = False) -> None:
        """Show an answer while it is generated, and what is to be said of it; then run its calls, and show what the model
        makes of the results. `continues`: it goes on with the last one."""
        finished = self._show(events, continues=continues)
        rounds = 0
        while finished and finished.finish_reason == "tool_calls":
            if rounds == _MOST_ROUNDS:
                self.say_aside(f"(stopped after {rounds} rounds of calls; /continue goes on)\n")
                return
            rounds += 1
            if not run_calls(self):
                return
            self.update_tools()
            finished = self._show(self.session.resume())

    def go_on(self) -> None:
        """Continue the last answer, or run its calls if they were not. Raises UsageError."""
        calls = self.session.pending_calls
        if calls and not run_calls(self):
            return
        self.show(self.session.resume(), continues=not (calls or self.session.has_results))

    def update_tools(self) -> None:
        """Tell the model of the tools as they are now."""
        box = self.world.toolbox
        for notice in box.refresh():
            self.terminal.notice(notice)
        if box.specs != self.session.tools:
            self.session.tools = box.specs

    def tool_cost(self) -> str:
        """How many tools there are, and what they cost."""
        tools, tokens = self.world.toolbox.tools, self.session.tool_tokens()
        enabled = len(self.session.tools)
        number = (
            count(len(tools), "tool") if enabled == len(tools) else f"{enabled} of {count(len(tools), 'tool')} enabled"
        )
        return f"{number}: {count(tokens, 'token')} of the context ({self.session.context_tokens:,})."

    def _notice(self, notice: Notice) -> None:
        """Of an answer; that a model has no form for tools is said once."""
        if notice.code == "tools" and self._told_of_form:
            return
        self._told_of_form = self._told_of_form or notice.code == "tools"
        self.terminal.notice(notice)

    def _show(self, events: Generator[GenerationEvent], *, continues: bool = False) -> Finished | None:
        """One answer; None if it was interrupted."""
        before = list(self.session.messages)
        terminal = self.terminal
        self.keeper.set_model(self.session.generator.info.ref)
        color = terminal.color and not terminal.dumb
        thoughts = ThoughtStream(terminal.stdout, terminal=True, color=color) if self.think == "on" else None
        try:
            with quiet_keys(terminal.stdin):
                finished = show_answer(
                    events, self.world.make_stream(), terminal.status(), notice=self._notice, thoughts=thoughts
                )
        except ContextOverflow:
            if self.session.tools:
                self.note(f"{self.tool_cost().rstrip('.')}; /tools disable NAME makes room")
            raise
        except KeyboardInterrupt:
            events.close()
            kept = self.session.messages != before
            self.say_aside("(stopped; partial answer kept)\n" if kept else f"(stopped; {self._lost()})\n")
            return None
        events.close()  # the history has the answer then
        self._say_end(finished, before, continues=continues)
        return finished

    def _say_end(self, finished: Finished, before: Sequence[ChatMessage], *, continues: bool) -> None:
        """What is to be said of an answer; `before`: the messages before it."""
        if finished.usage.completion_tokens:
            self._rate = format_rate(finished.usage.completion_tokens, finished.timings.decode_s)
        if [message.content for message in self.session.messages] == [message.content for message in before]:
            if not self.session.answered:
                self.say_aside(f"(no answer; {self._lost()})")
            elif continues or not finished.usage.completion_tokens:
                self.say_aside("(the model added nothing)")
        if finished.cut_by:
            self.say_aside(
                f"({describe_cut(finished, context_tokens=self.session.context_tokens)}; {self._way(finished)})"
            )
        if self.show_stats:
            self.say_aside(_stats_line(finished))
        if finished.finish_reason != "tool_calls" or self.session.messages[-1].content:
            self.say("")

    def _lost(self) -> str:
        """What became of what was to be answered."""
        return "/continue tries again" if self.session.has_results else "message discarded"

    def _way(self, finished: Finished) -> str:
        """What to do about an answer that was cut off."""
        if finished.cut_by == "max_tokens":
            return "/continue resumes, /set max_tokens N changes the limit"
        if self.session.can_drop:
            return "/continue resumes without the oldest messages"
        return "/set context N enlarges it" if self._can_grow() else "ask for a shorter answer"

    def _can_grow(self) -> bool:
        return self.session.context_tokens < self.session.generator.fitting_tokens

    # settings

    def set_parameter(self, key: str, value: Any) -> None:
        """Set it from the next answer on; None restores the value the chat started with. Raises UsageError, DoesNotFit."""
        if key == "context" and value is None:
            self._reset_context()
        else:
            change_parameter(self.session, key, value)
        self._options[key] = value
        self.keeper.set_option(key, value)

    def _reset_context(self) -> None:
        """To the tokens that the chat started with, as far as they fit now."""
        generator = self.session.generator
        generator.resize_context(min(self._first_context, generator.fitting_tokens))

    def set_format(self, guidance: Guidance | None) -> None:
        """What answers must follow from the next one on. Raises UsageError for what cannot be followed."""
        if guidance:
            check_guidance(guidance)
        self.session.guidance = guidance
        self.keeper.set_format(guidance)

    def say_format(self) -> None:
        """What answers follow."""
        guidance = self.session.guidance
        if guidance is None:
            self.say("Format off.")
            return
        rule = "are JSON" if guidance == Guidance.json() else f"follow a {guidance.name}"
        self.say(f"Answers {rule}. /format off to stop.")

    def set_think(self, mode: str) -> str:
        """Why the model thinks all the same, "" if it does not; its thoughts are only shown with "on"."""
        self.session.prompter, refused = self.session.prompter.with_thinking(mode != "off")
        self.think = mode
        return refused

    # the model

    def change_model(self, ref: str) -> None:
        """Switch to another model; if it cannot be loaded, load the previous one again. Raises LmsupplyError."""
        load, back = self.world.prepare(ref), self.world.prepare(self.session.generator.info.ref)
        self.session.generator.close()
        with quiet_keys(self.terminal.stdin):
            try:
                self._use(load())
            except BaseException:
                self.say("Reloading the previous model …")
                self._use(back())
                raise
        self._rate = ""
        info = self.session.generator.info
        self.keeper.set_model(info.ref)
        self.say(f"{info.ref} on {info.provider}, context {self.session.context_tokens:,} tokens.")
        self._say_cost()

    def _use(self, generator: ChatGenerator) -> None:
        """Continue with another model, with what was set in the chat."""
        self.session.use(generator)
        self._told_of_form = False
        self._first_context = generator.context_tokens
        self._apply(self._options)
        refused = self.set_think(self.think)
        if refused and self.think == "off":
            self.note(refused)

    # saved chats

    def start_afresh(self) -> None:
        """Start a new chat; the previous one stays saved."""
        self.world.toolbox.forget_always()
        self._named = False
        self._start_record()
        self.session.clear()
        self._rate = ""

    def save_as(self, name: str) -> str:
        """Name the chat, or say its name. Raises UsageError."""
        if not name:
            way = "/save NAME renames it" if self._named else "/save NAME names it"
            return f"Saved automatically as {self.keeper.name}; {way}."
        before, named = self.keeper.name, self._named
        self.keeper.rename(name)
        self._named = True
        done = f"Renamed {before} to {name}" if named and before != name else f"Saved as {name}"
        return f"{done}; resume it with: lmsupply chat --resume {_quoted(name)}"

    def resume(self, chat: SavedChat, *, keeping: Collection[str] = ()) -> None:
        """Resume a saved chat, with what was set in it but for `keeping`. Raises UsageError if another window has it
        open."""
        if chat.name == self.keeper.name:
            self.say("That chat is already open.")
            return
        self.keeper.resume(chat)
        self.world.toolbox.forget_always()
        self._named = True
        self.session.listener = SessionListener()  # what is restored is in the file already
        self.session.restore(chat.messages)
        self.session.listener = self.keeper
        self.session.options = self.session.generator.options
        if "context" in self._options:
            self._reset_context()
        self._options = {}
        self._apply({key: value for key, value in chat.options.items() if key not in keeping})
        self.session.guidance = None
        try:
            self.set_format(chat.guidance)
        except LmsupplyError as error:
            self.note(f"the answer format was not restored: {error.message}")
        self.say(f"Resumed {chat.name}: {count(len(chat.messages), 'message')}.")
        if shown := [f"{key} {value_text(value)}" for key, value in self._options.items() if value is not None]:
            self.say(f"Settings: {', '.join(shown)}.")
        if chat.model and chat.model != self.session.generator.info.ref:
            self.note(f"this chat used {chat.model}; /model {chat.model} switches to it")
        if self.session.guidance:
            self.say_format()
        for message in chat.messages[-2:]:
            text = shortened(message.content or ", ".join(f"calls {c.name}" for c in message.tool_calls), 70)
            mark = "…" if message.partial and not text.endswith("…") else ""
            self.say(f"  {message.role}: {text}{mark}")
        self._say_cost()

    def _start_record(self) -> None:
        self.keeper.start(self.session.generator.info.ref, self._options, self.session.guidance)
        self.session.listener = self.keeper

    def _say_cost(self) -> None:
        cost = self.session.next_prompt_cost()
        if (tokens := cost.prompt_tokens - cost.cached_tokens) > 0:
            self.say(f"About {count(tokens, 'token')} will be reprocessed.")

    def _apply(self, options: Mapping[str, Any]) -> None:
        """Restore options that were set in the chat; a note names those that this model does not support."""
        for key, value in options.items():
            try:
                self.set_parameter(parameter_key(key), tuple(value) if isinstance(value, list) else value)
            except LmsupplyError as error:
                self.note(f"{key} {value} was not restored: {error.message}")


def without_control(text: str) -> str:
    """The typed text without control characters, which nobody means to send."""
    return text.translate(_CONTROL)


def _stats_line(finished: Finished) -> str:
    usage, timings, drafts = finished.usage, finished.timings, finished.speculative
    rate = format_rate(usage.completion_tokens, timings.decode_s).replace(" tokens", "")
    parts = [
        f"{count(usage.prompt_tokens, 'prompt token')} ({usage.cached_tokens:,} cached)",
        f"{format_seconds(timings.ttft_s)} to first token",
        f"{count(usage.completion_tokens, 'token')} at {rate}",
    ]
    if drafts:
        parts.append(f"{drafts.accepted} of {drafts.proposed} draft tokens accepted")
    return " · ".join(parts)


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name
