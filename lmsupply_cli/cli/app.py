"""The command table, and `main`: the one place where errors become an exit code."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from shlex import quote
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from lmsupply_cli._version import JSON_SCHEMA, __version__
from lmsupply_cli.cli.exit import BUG, ERROR, INTERRUPTED, OK, TERMINATED, USAGE, Terminated, sigterm_raises
from lmsupply_cli.cli.help import Command, grouped_options, help_settings, write_section, write_usage
from lmsupply_cli.errors import LmsupplyError, UsageError, did_you_mean
from lmsupply_cli.render.output import give_back, take_over

# name → its line in --help; the command itself is lmsupply_cli/cli/<name>.py or cli/<name>/command.py
COMMANDS = {
    "run": "Answer one prompt and print it.",
    "classify": "Choose the most likely of several given answers, with exact probabilities.",
    "chat": "Chat with a model.",
    "serve": "Serve models over HTTP, with the APIs of OpenAI, Anthropic and Ollama.",
    "launch": "Start a coding agent on a running server.",
    "ps": "List the models that running servers have in memory.",
    "stop": "Unload models of running servers.",
    "pull": "Download a model.",
    "models": "List models: available, installed, size, license, and whether they should fit.",
    "search": "Search the Hugging Face Hub for models that run here.",
    "show": "Show details of a model: variants, license, architecture, files.",
    "rm": "Remove installed models.",
    "verify": "Check installed models for damaged files.",
    "use": "Set the default model, or show which one answers and why.",
    "add": "Register a local model folder, or import a GGUF file or safetensors.",
    "convert": "Convert safetensors or a GGUF file to a model that lmsupply runs.",
    "templates": "List, show and edit saved prompts.",
    "licenses": "List the licenses you have accepted.",
    "config": "Show and change settings.",
    "hw": "Show hardware and usable execution providers.",
    "completion": "Print a shell completion script.",
}
# words of other tools: what they mean here, or what to use instead
SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "list": ("models", "--installed"),
        "ls": ("models", "--installed"),
        "download": ("pull",),
        "get": ("pull",),
        "remove": ("rm",),
        "delete": ("rm",),
        "uninstall": ("rm",),
        "info": ("show",),
        "inspect": ("show",),
        "import": ("add",),
        "quantize": ("convert",),
        "check": ("verify",),
        "unload": ("stop",),
        "settings": ("config",),
        "version": ("--version",),
        "help": ("--help",),
    }
)
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "create": "register a model folder, or import a GGUF file, with lmsupply add PATH",
        "cp": "another name for a local model folder: lmsupply add FOLDER NAME",
        "update": "lmsupply pull MODEL downloads its newest revision; pip install -U lmsupply updates lmsupply",
        "upgrade": "lmsupply pull MODEL downloads its newest revision; pip install -U lmsupply updates lmsupply",
        "install": "lmsupply pull MODEL downloads a model",
        "login": "set HF_TOKEN to a token from https://huggingface.co/settings/tokens",
        "ask": "lmsupply run MODEL PROMPT",
        "prompt": "lmsupply run MODEL PROMPT",
        "load": "run and chat load the model themselves",
        "logs": "lmsupply chat --continue resumes the last chat",
        "generate": "lmsupply run MODEL PROMPT",
    }
)
OPTIONS_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "--num-predict": "--max-tokens",
        "--n-predict": "--max-tokens",
        "--max-new-tokens": "--max-tokens",
        "--num-ctx": "--context",
        "--ctx-size": "--context",
        "--repeat-penalty": "--repetition-penalty",
        "--verbose": "--stats",
        "--nowordwrap": "--plain",
        "--output": "--out",
    }
)
_BUG_HINT = "run it again with --debug and report what it shows"
# what a disk or a system may do at any time; our own reads and writes name it at their place
_WORLD = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE,
          errno.ESTALE, errno.ENAMETOOLONG)  # fmt: skip
HELP = "Run language models on your own machine, with ONNX Runtime GenAI."


class CommandGroup(TyperGroup):
    """Loads a command when it is used: `--help` and `--version` load none."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and args[0] in ELSEWHERE:
            raise UsageError(f"no such command: {args[0]}", hint=ELSEWHERE[args[0]])
        if args and " " in args[0].strip():
            raise UsageError(f"no such command: {args[0]}", hint=f"to ask it: lmsupply run {quote(args[0])}")
        return super().resolve_command(ctx, args)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        write_usage(self, ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_section(formatter, "Commands", list(COMMANDS.items()))
        for name, records in grouped_options(self, ctx).items():
            write_section(formatter, name, records)


def with_synonyms(argv: list[str]) -> list[str]:
    """Translate other tools' commands: `ls` is `models --installed`, `help run` is `run --help`."""
    if argv and argv[0] == "help" and len(argv) > 1:
        return [*with_synonyms([argv[1]])[:1], "--help"]
    if argv and argv[0] not in COMMANDS and argv[0] in SYNONYMS:
        return [*SYNONYMS[argv[0]], *argv[1:]]
    return argv


def load_command(name: str) -> Command:
    function = getattr(import_module(f"lmsupply_cli.cli.{name}"), name)
    module = sys.modules[function.__module__]
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings = help_settings() | {"allow_extra_args": True}
    app.command(name, cls=Command, help=function.__doc__, context_settings=settings)(function)
    command = get_command(app)
    assert isinstance(command, Command)
    command.examples = getattr(module, "EXAMPLES", ())
    return command


def make_group() -> CommandGroup:
    app = typer.Typer(cls=CommandGroup, add_completion=False, rich_markup_mode=None)
    settings = help_settings()
    app.callback(invoke_without_command=True, help=HELP, context_settings=settings)(_bare)
    group = get_command(app)
    assert isinstance(group, CommandGroup)
    group.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # names only: did-you-mean reads them
    return group


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"lmsupply {__version__}")
        raise typer.Exit


def _show_help(ctx: typer.Context, value: bool) -> None:
    if value:
        typer.echo(ctx.get_help())
        raise typer.Exit


def _bare(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    show_help: Annotated[
        bool, typer.Option("--help", "-h", callback=_show_help, is_eager=True, help="Show this message and exit.")
    ] = False,
) -> None:
    """`lmsupply` alone: what to do next. The options act in their callbacks; `--help` is one of them because typer's own
    has no value of its type, and so would be converted."""
    if ctx.invoked_subcommand is None:
        from lmsupply_cli.cli.welcome import welcome

        typer.echo(welcome(shutil.get_terminal_size().columns), nl=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. Nothing is raised."""
    from lmsupply_cli.render.flags import named_by_place

    take_over()  # streams that can fail
    with sigterm_raises(), named_by_place({}):
        try:
            return _main(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            give_back()


def _main(argv: list[str]) -> int:
    words = argv[: argv.index("--")] if "--" in argv else argv
    debug, as_json = "--debug" in words, bool({"--json", "--stream-json"} & set(words))
    stream = "--stream-json" in words
    try:
        code = _interruptible(argv)
        sys.stdout.flush()
        return code
    except LmsupplyError as error:
        if debug:
            _traceback()
        _report(error.message, error.hint, code=error.code, as_json=as_json, stream=stream)
        return error.exit_code
    except TyperException as error:
        message, hint = _wrong_usage(error, argv)
        _report(message, hint, code="usage", as_json=as_json, stream=stream)
        return USAGE
    except (KeyboardInterrupt, Terminated) as stop:
        what, exit_code = ("terminated", TERMINATED) if isinstance(stop, Terminated) else ("interrupted", INTERRUPTED)
        if as_json:
            _report_json(what, "", code=what, stream=stream)
        return exit_code
    except BrokenPipeError:
        return OK
    except Exception as error:
        message, hint, code_name, exit_code = _unforeseen(error)
        if debug:
            _traceback()
        _report(message, hint, code=code_name, as_json=as_json, stream=stream)
        return exit_code


def _wrong_usage(error: TyperException, argv: list[str]) -> tuple[str, str]:
    """(message, hint) for an error of the parser."""
    context, words = getattr(error, "ctx", None), with_synonyms(argv)
    hint = f"lmsupply {words[0]} --help" if words and words[0] in COMMANDS else "lmsupply --help"
    if hasattr(error, "possibilities") and (option := getattr(error, "option_name", "")):
        known = (
            [flag for parameter in context.command.params for flag in (*parameter.opts, *parameter.secondary_opts)]
            if context
            else []
        )
        flags = [flag for flag in known if flag.startswith("-")]
        if words[:2] == ["config", "set"] and option[1:2].isdigit():
            value = next((word for word in words if word.startswith(option)), option)
            return f"unknown option {option}", f"for a negative value: lmsupply config set KEY -- {value}"
        if (ours := OPTIONS_ELSEWHERE.get(option)) in flags:
            return f"unknown option {option}", f"use {ours}"
        return f"unknown option {option}", did_you_mean(option, flags, hint, cutoff=0.7)
    if hasattr(error, "param_type") and (metavar := getattr(getattr(error, "param", None), "metavar", None)):
        missing = metavar.removesuffix("...")
        listed = "; lmsupply models lists the models" if missing == "MODEL" else ""
        hint = f"lmsupply {words[0]} {missing}{listed}"
    return _lower(getattr(error, "format_message", error.__str__)()), hint


def _unforeseen(error: Exception) -> tuple[str, str, str, int]:
    """(message, hint, code, exit code) of what nothing below has translated: the system's doing, or a bug."""
    if isinstance(error, MemoryError):
        return "there is not enough memory", "close other programs, or use a smaller model or prompt", "memory", ERROR
    if isinstance(error, OSError) and error.errno in _WORLD:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", "check free space and permissions", "file", ERROR
    return f"a bug in lmsupply: {type(error).__name__}: {error}", _BUG_HINT, "bug", BUG


def _interruptible(argv: list[str]) -> int:
    """Ctrl-C or SIGTERM in the middle of an import may come out as another error that it caused."""
    try:
        return _invoke(argv)
    except Exception as error:
        cause: BaseException | None = error
        seen: set[int] = set()  # a chain may be a circle
        while cause is not None and not isinstance(cause, (KeyboardInterrupt, Terminated)):
            seen.add(id(cause))
            cause = cause.__cause__ or cause.__context__
            cause = None if id(cause) in seen else cause
        if cause is not None:
            raise cause from None
        raise


def _invoke(argv: list[str]) -> int:
    if os.environ.get("_LMSUPPLY_COMPLETE"):
        from lmsupply_cli.cli.complete import complete_words

        return complete_words(argv)
    group = make_group()
    try:
        with group.make_context("lmsupply", _marked(with_synonyms(argv))) as context:
            group.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return INTERRUPTED
    return OK


def _marked(argv: list[str]) -> list[str]:
    """Mark where `--` begins the prompt: the parser itself only stops reading options there."""
    if "--" not in argv or argv[0] not in ("run", "classify"):
        return argv
    from lmsupply_cli.cli.options import PROMPT_MARK

    at = argv.index("--") + 1
    return [*argv[:at], PROMPT_MARK, *argv[at:]]


def _report(message: str, hint: str, *, code: str, as_json: bool, stream: bool) -> None:
    """On stderr, and with `as_json` on stdout too. It never raises: what cannot be told is not told."""
    from lmsupply_cli.render.style import styled_error

    sys.stderr.write(styled_error(message, hint, sys.stderr))
    if as_json:
        _report_json(message, hint, code=code, stream=stream)


def _report_json(message: str, hint: str, *, code: str, stream: bool) -> None:
    from lmsupply_cli.render.flags import as_flags
    from lmsupply_cli.render.sanitize import json_text

    error: dict[str, Any] = {"schema": JSON_SCHEMA, **({"type": "error"} if stream else {})}
    error["error"] = {"code": code, "message": as_flags(message), "hint": as_flags(hint)}
    with suppress(LmsupplyError, OSError):
        sys.stdout.write(json_text(error) + "\n")
        sys.stdout.flush()


def _traceback() -> None:
    import traceback

    traceback.print_exc()


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
