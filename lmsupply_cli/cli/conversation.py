"""What `lmsupply chat` does: choose a model and a saved chat, load, and talk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.catalogue.lookup import read_catalogue
from lmsupply_cli.chats.archive import Archive, SavedChat
from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.cli.choose import choose_model, store_root
from lmsupply_cli.cli.load import load_model, plan_model, say_plan
from lmsupply_cli.cli.run.single import read_options
from lmsupply_cli.config.layers import Settings, read_settings
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.options import preset_values
from lmsupply_cli.errors import UsageError
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.loading.plan import LoadPlan
from lmsupply_cli.render.stream import choose_stream
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.repl.chat import Chat, World
from lmsupply_cli.repl.input import TerminalReader
from lmsupply_cli.repl.loop import ChatLoop
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.locate import guide, installed_models

_RESERVE_TOKENS = 4096  # of cache from the start, where the model has them: most chats never outgrow it


@dataclass(frozen=True)
class Conversation:
    model: str | None
    both: tuple[str, str] | None
    system: str | None
    go_on: bool
    resume: str | None
    no_save: bool
    stats: bool
    plain: bool
    trust: bool
    pull: bool
    accepted: bool
    preset: str | None
    debug: bool
    dry_run: bool
    flags: dict[str, Any] = field(default_factory=dict)


def converse(asked: Conversation) -> None:
    """Raises the errors of what it uses; `main` reports them."""
    terminal = Terminal.of_process()
    if not asked.dry_run and not (terminal.stdin_tty and terminal.stdout_tty):
        raise UsageError("chat needs a terminal", hint='in a script or a pipe: lmsupply run "your question"')
    if asked.both:
        raise UsageError(f"two models are named: {' and '.join(asked.both)}", hint="leave one out")
    if asked.go_on and asked.resume:
        raise UsageError("--continue and --resume exclude each other", hint="use one of them")
    check_text(asked.system or "")
    preset = preset_values(asked.preset) if asked.preset else None
    settings = read_settings(asked.flags, preset=preset, environ=terminal.environ, path=paths.settings_file())
    archive = Archive(paths.sessions_dir())
    saved = _saved(asked, archive)
    if asked.go_on:
        for reason in archive.unreadable():
            terminal.say(f"note: skipped: {reason}")

    def prepare(ref: str | None) -> Callable[[], TextGenerator]:
        plan = _prepare(ref, asked, settings, terminal)
        return lambda: load_model(plan(), terminal, notices=[])

    named = asked.model or (saved.model if saved else None)
    if asked.dry_run:
        say_plan(_prepare(named, asked, settings, terminal)(), terminal)
        return
    with prepare(named)() as generator:
        info = generator.info
        room = f"context {generator.context_tokens:,} tokens"
        if settings.get("context") is None and generator.context_tokens < info.context_length:
            room += f" of {info.context_length:,}: what fits the memory"
        terminal.say(f"{info.ref} on {info.provider}, {room}. /help for help, /bye to leave.")
        theme = "none" if asked.plain else settings.get("theme")
        session = ChatSession(generator, system=asked.system, policy=settings.get("on_overflow") or "drop-oldest")
        world = World(
            prepare=prepare,
            model_names=lambda: _model_names(settings),
            installed_models=lambda: [*installed_models(store_root(settings)), guide()],
            license_text=lambda shown: _license_text(shown, settings),
            make_stream=lambda: choose_stream(
                terminal.stdout, terminal=True, dumb=terminal.dumb, color=terminal.color, theme=theme, hold=False
            ),
            environ=terminal.environ,
            debug=asked.debug,
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
        if saved:
            chat.resume(saved)
            if asked.system is not None:
                session.system = asked.system
        try:
            history = paths.history_file() if settings.get("history") else None
            ChatLoop(chat, TerminalReader(color=terminal.color, history=history)).run()
        finally:
            session.generator.close()


def _saved(asked: Conversation, archive: Archive) -> SavedChat | None:
    if asked.resume:
        return archive.load(asked.resume)
    if not asked.go_on:
        return None
    found = next((chat for chat in archive.find() if not archive.is_open(chat.name)), None)
    if found is None:
        raise UsageError("there is no saved chat to go on with", hint="lmsupply chat begins one")
    return found


def _prepare(ref: str | None, asked: Conversation, settings: Settings, terminal: Terminal) -> Callable[[], LoadPlan]:
    """Find the model, pulled where the settings say so, and look at its files; planning and loading come later."""
    choice = choose_model(ref, settings, store_root(settings), terminal, pull=asked.pull, accepted=asked.accepted)
    folder = open_model(choice.model, trust=asked.trust)
    options = read_options(settings, folder)[1].replaced(num_beams=1, logprobs=False, top_logprobs=0)
    for notice in choice.notices:
        terminal.notice(notice)

    def plan() -> LoadPlan:
        return plan_model(choice.model, folder, settings, options=options, reserve_tokens=_RESERVE_TOKENS)

    return plan


def _model_names(settings: Settings) -> Iterable[str]:
    installed = [model.ref for model in installed_models(store_root(settings))]
    return dict.fromkeys([*installed, *(entry.ref for entry in read_catalogue())])


def _license_text(info: ModelInfo, settings: Settings) -> str:
    from lmsupply_cli.cli.show.describe import license_text

    try:
        return license_text(info.ref, settings, store_root(settings))
    except Exception:
        where = f", {info.license.url}" if info.license.url else ""
        return f"{info.license.id} ({info.license.tier}){where}"
