"""/help, /show and /bye."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.command import Command, find_command, one_of
from lmsupply_cli.repl.parameters import parameter_rows
from lmsupply_cli.units import count, format_parameters

_WHAT = ("info", "license", "parameters", "system", "template", "prompt")
_KEYS = (
    ("Alt-Enter", "a new line"),
    ('"""', "starts and ends a message of several lines"),
    ("@path", "in a message includes that file"),
    ("Ctrl-G", "opens the line in $EDITOR"),
    ("Up, Ctrl-R", "earlier lines"),
    ("Ctrl-C", "stops an answer"),
    ("Ctrl-D", "quits"),
)


def help_rows_of(commands: Sequence[Command]) -> list[tuple[str, str]]:
    """(names and usage, what it does) of each command."""
    return [(_usage(command), command.help) for command in commands]


def help_command(commands: Callable[[], Sequence[Command]]) -> Command:
    """/help for a table that it is itself a row of."""

    def show_help(chat: Chat, rest: str) -> None:
        if not rest.strip("/ "):
            chat.say_rows([*help_rows_of(commands()), *_KEYS])
            return
        names = {name: command for command in commands() for name in (*command.names, *command.synonyms)}
        found = find_command("/" + rest.lstrip("/").split()[0], names)
        if not found:
            raise UsageError(f"no such command: {rest}", hint="/help lists the commands")
        command = found[0]
        chat.say(_usage(command))
        texts = [f"{command.help[0].upper()}{command.help[1:]}.", command.details]
        chat.say_rows(
            [("", text) for text in [*filter(None, texts), f"Example: {command.example or command.names[0]}"]]
        )

    def names(_: Chat, rest: str) -> list[str]:
        known = [name[1:] for command in commands() for name in command.names]
        return [name for name in known if name.startswith(rest.lstrip("/"))]

    return Command(
        ("/help", "/?"),
        "[COMMAND]",
        "list the commands, or explain one",
        show_help,
        names,
        example="/help set",
        synonyms=("/h", "/commands"),
    )


def _usage(command: Command) -> str:
    return " ".join((*command.names, command.usage)).strip()


def _show(chat: Chat, rest: str) -> None:
    session = chat.session
    if rest in ("", "info"):
        chat.say_rows(_info(chat))
    elif rest in ("license", "licence"):
        chat.say(chat.world.license_text(session.generator.info))
    elif rest == "parameters":
        chat.say_rows(parameter_rows(session))
    elif rest == "system":
        chat.say(session.system or "There is no system prompt.")
    elif rest == "template":
        formatter = session.prompter.format.formatter
        chat.say(formatter.source if isinstance(formatter, Template) else f"The built-in format {formatter.name}.")
    elif rest == "prompt":
        chat.say(session.prompt_text() or "There is no message yet.")
    else:
        raise UsageError(f"/show: unknown option {rest!r}", hint="/show " + "|".join(_WHAT))


def _info(chat: Chat) -> list[tuple[str, str]]:
    generator = chat.session.generator
    info = generator.info
    rows = [
        ("model", info.ref + (f" ({info.repo})" if info.repo else "")),
        ("license", info.license.label),
        ("parameters", format_parameters(info.parameters)),
        ("precision", info.precision or "unknown"),
        ("provider", f"{info.provider}, {count(info.threads, 'thread')}"),
        (
            "context",
            f"{generator.context_tokens:,} of {info.context_length:,} tokens, {generator.cached_tokens:,} cached",
        ),
        ("format", chat.session.prompter.format.formatter.name),
        ("files", str(info.path)),
        ("chat", chat.keeper.name or "not saved"),
    ]
    if chat.world.toolbox.tools:
        rows.append(("tools", chat.tool_cost()))
    if chat.session.dropped:
        rows.append(("dropped", f"{count(chat.session.dropped, 'old message')}, no longer sent to the model"))
    return rows


def _bye(chat: Chat, _: str) -> None:
    chat.done = True


INFO = (
    Command(
        ("/show",),
        "[WHAT]",
        f"show {', '.join(_WHAT[:-1])} or {_WHAT[-1]}",
        _show,
        one_of(*_WHAT),
        details="`/show prompt` is the exact text that the model gets.",
        example="/show license",
        synonyms=("/info", "/status"),
    ),
    Command(("/bye", "/exit", "/quit"), "", "quit", _bye, synonyms=("/q", "/x")),
)
