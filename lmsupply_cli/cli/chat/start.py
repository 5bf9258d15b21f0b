"""What `lmsupply chat` does: choose a model and a saved chat, load, and talk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.lookup import read_catalogue
from lmsupply_cli.chats.archive import Archive, SavedChat
from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.cli.chat.tools import ToolOptions, offer_tools, toolbox
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.prepare import ModelRequest, Prepared, open_generator, overflow_policy, prepare, say_load_plan
from lmsupply_cli.cli.warm import say_warm
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.generation.answers import ChatGenerator
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.render.answer import choose_stream
from lmsupply_cli.repl.chat import Chat, World
from lmsupply_cli.repl.input import TerminalReader
from lmsupply_cli.repl.loop import ChatLoop
from lmsupply_cli.repl.parameters import EXCLUDED
from lmsupply_cli.store.locate import guide, installed_models

_GIVEN = ("flag", "preset", "template")  # they outrank what was saved with a chat
_RESERVE_TOKENS = 4096  # of cache from the start, where the model has them: most chats never outgrow it


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the command line says about the chat. `last`: resume the last saved one, `resume`: the one of that name."""

    system: str | None = None
    last: bool = False
    resume: str | None = None
    no_save: bool = False
    stats: bool = False
    plain: bool = False
    tools: ToolOptions = field(default_factory=ToolOptions)


def print_load_plan(ctx: Context, wanted: ModelRequest, asked: ChatRequest) -> None:
    """How the model would be loaded."""
    saved = _saved(ctx, asked, Archive(paths.sessions_dir()))
    found = _found(ctx, replace(wanted, name=wanted.name or (saved.model if saved else None)))
    if not wanted.no_server:
        say_warm(ctx, found)
    say_load_plan(ctx, found.plan(ctx.settings, reserve_tokens=_RESERVE_TOKENS))


def start_chat(ctx: Context, wanted: ModelRequest, asked: ChatRequest) -> None:
    """Raises the errors of what it uses; `main` reports them."""
    terminal, settings = ctx.terminal, ctx.settings
    if not (terminal.stdin_tty and terminal.stdout_tty):
        raise UsageError("chat needs a terminal", hint='in a script or a pipe: lmsupply run "your question"')
    check_text(asked.system or "")
    archive = Archive(paths.sessions_dir())
    saved = _saved(ctx, asked, archive)

    first = wanted.name or (saved.model if saved else None)
    named = {first}  # what --trust-model-files, --accept-license and --pull were given for

    def prepared(ref: str | None) -> Callable[[], ChatGenerator]:
        request = replace(wanted, name=ref) if ref in named else ModelRequest(ref, no_server=wanted.no_server)
        found = _found(ctx, request)
        return lambda: open_generator(ctx, found, request, reserve_tokens=_RESERVE_TOKENS)

    with toolbox(ctx, asked.tools) as box, prepared(first)() as generator:
        named.add(generator.info.ref)
        theme = "none" if asked.plain else settings.get("theme")
        session = ChatSession(generator, system=asked.system, policy=overflow_policy(settings, "drop-oldest"))
        world = World(
            prepare=prepared,
            model_names=lambda: _model_names(ctx.root),
            installed_models=lambda: [*installed_models(ctx.root), guide()],
            license_text=lambda shown: _license_text(ctx, shown),
            make_stream=lambda: choose_stream(
                terminal.stdout, terminal=True, dumb=terminal.dumb, color=terminal.color, theme=theme, hold=False
            ),
            environ=terminal.environ,
            debug=ctx.debug,
            toolbox=box,
        )
        chat = Chat(
            session,
            terminal,
            world,
            archive,
            keep=settings.get("save_sessions") and not asked.no_save,
            show_stats=asked.stats,
            think=settings.get("think"),
        )
        offer_tools(chat, asked.tools)
        if saved:
            chat.resume(saved, keeping=[key for key in SETTINGS if settings.value(key).source in _GIVEN])
            if asked.system is not None:
                session.system = asked.system
        terminal.say(f"{_banner(generator)} /help for help, /bye to quit.")
        try:
            history = paths.history_file() if settings.get("history") else None
            ChatLoop(chat, TerminalReader(color=terminal.color, history=history)).run()
        finally:
            session.generator.close()


def _banner(generator: ChatGenerator) -> str:
    info, tokens = generator.info, generator.context_tokens
    limited = tokens == generator.fitting_tokens < info.context_length
    room = f" of {info.context_length:,}, limited by memory" if limited else ""
    place = getattr(generator, "place", "")
    return f"{info.ref} on {place or info.provider}, context {tokens:,} tokens{room}."


def _saved(ctx: Context, asked: ChatRequest, archive: Archive) -> SavedChat | None:
    """The chat to resume. A note names those that cannot be read."""
    if asked.resume:
        return archive.load(archive.named(asked.resume))
    if not asked.last:
        return None
    found = archive.find()
    for reason in found.skipped:
        ctx.notice(Notice("skipped", f"skipped: {reason}"))
    last = next((chat for chat in found.chats if not archive.is_open(chat.name)), None)
    if last is None:
        raise UsageError("there is no saved chat to resume", hint="lmsupply chat starts one")
    return last


def _found(ctx: Context, wanted: ModelRequest) -> Prepared:
    """The model, pulled where the settings say so, and its files; planning and loading come later."""
    return prepare(ctx, wanted, unused=EXCLUDED, fill_context=True)


def _model_names(root: Path) -> Iterable[str]:
    installed = [model.ref for model in installed_models(root)]
    return dict.fromkeys([*installed, *(entry.ref for entry in read_catalogue())])


def _license_text(ctx: Context, info: ModelInfo) -> str:
    from lmsupply_cli.cli.show.describe import license_text

    try:
        return license_text(info.ref, ctx.settings, ctx.root)
    except Exception:
        where = f", {info.license.url}" if info.license.url else ""
        return f"{info.license.label}{where}"
