"""`lmsupply chat`: talk with a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import AcceptLicense, Debug, Preset, Pull, TrustModelFiles, takes_settings
from lmsupply_cli.config.table import GENERATION_KEYS

_RESERVE_TOKENS = 4096  # of cache from the start, where the model has them: most chats never outgrow it


@takes_settings(
    *(key for key in GENERATION_KEYS if key != "num_beams"),
    "context",
    "memory_limit",
    "threads",
    "provider",
    "precision",
    "cache_dir",
    "offline",
    "on_overflow",
    "theme",
    "chat_format",
    "think",
    "reasoning_effort",
)
def chat(
    *,
    named: Annotated[str | None, typer.Argument(metavar="[MODEL]", show_default=False)] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model that answers.")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system prompt.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Show tokens and speed after each answer.")] = False,
    trust_model_files: TrustModelFiles = False,
    pull: Pull = False,
    accept_license: AcceptLicense = False,
    preset: Preset = None,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Talk with a model.

    /help lists the commands of the chat. Ctrl-C stops an answer, Ctrl-D leaves.
    """
    from lmsupply_cli import paths
    from lmsupply_cli.cli.choose import choose_model, store_root
    from lmsupply_cli.cli.load import load_model
    from lmsupply_cli.cli.notices import unread_notices
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.engine.base import check_text
    from lmsupply_cli.engine.folder import open_folder
    from lmsupply_cli.engine.model_options import model_options
    from lmsupply_cli.engine.options import GenerationOptions, preset_values
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.render.stream import choose_stream
    from lmsupply_cli.render.terminal import Terminal
    from lmsupply_cli.repl.input import TerminalReader
    from lmsupply_cli.repl.loop import ChatLoop
    from lmsupply_cli.runtime.session import ChatSession

    terminal = Terminal.of_process()
    if not (terminal.stdin_tty and terminal.stdout_tty):
        raise UsageError("chat needs a terminal", hint='in a script or a pipe: lmsupply run "your question"')
    if named and model:
        raise UsageError(f"two models are named: {named} and {model}", hint="leave one out")
    check_text(system or "")
    settings = read_settings(
        flags, preset=preset_values(preset) if preset else None, environ=terminal.environ, path=paths.settings_file()
    )
    choice = choose_model(named or model, settings, store_root(settings), terminal, pull=pull, accepted=accept_license)
    folder = open_folder(choice.model.path, trust=trust_model_files)
    values = {key: value.value for key, value in settings.generation(model_options(folder)).items()}
    options = GenerationOptions(**(values | {"num_beams": 1}))
    for notice in [*choice.notices, *unread_notices(settings)]:
        terminal.notice(notice)
    with load_model(
        choice.model, folder, settings, options, terminal, notices=[], reserve_tokens=_RESERVE_TOKENS
    ) as generator:
        info = generator.info
        room = f"context {generator.context_tokens:,} tokens"
        if settings.get("context") is None and generator.context_tokens < info.context_length:
            room += f" of {info.context_length:,}: what fits the memory"
        terminal.say(f"{info.ref} on {info.provider}, {room}. /help for help, /bye to leave.")
        theme = settings.get("theme")
        loop = ChatLoop(
            ChatSession(generator, system=system, policy=settings.get("on_overflow") or "drop-oldest"),
            TerminalReader(colour=terminal.colour),
            terminal,
            lambda: choose_stream(
                terminal.stdout, terminal=True, dumb=terminal.dumb, colour=terminal.colour, theme=theme, hold=False
            ),
            show_stats=stats,
        )
        loop.run()
