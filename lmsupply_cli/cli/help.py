"""A command as typer parses it, and its `--help`: the options in groups, then examples; readable in narrow windows too."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperCommand

from lmsupply_cli.errors import UsageError
from lmsupply_cli.render.style import paint

MODEL, INPUT, OUTPUT = "Model", "Input", "Output"
STRUCTURED, BATCH = "Structured output", "Batches"
SAMPLING, ENGINE = "Sampling", "Engine"
TOOLS, SERVER = "Tools", "Server"
_OTHER = "Options"
_ORDER = (SERVER, INPUT, MODEL, OUTPUT, TOOLS, STRUCTURED, BATCH, SAMPLING, ENGINE, _OTHER)
_NAMES = frozenset(
    (
        *(
            "model",
            "named",
            "name",
            "names",
            "alias",
            "folder",
            "source",
            "variant",
            "resume",
            "template",
            "batch",
            "out",
        ),
        *("revoke", "precision", "block_size"),
    )
)
_NARROW = 60  # columns; in a narrower window, the text of an option is below the option
_WIDE = 100


class Command(TyperCommand):
    """`examples`: (command line, what it does), set by the code that creates the command.

    Values stay the text that was typed, and each command checks its own: typer would import pydantic to convert them."""

    examples: tuple[tuple[str, str], ...] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises TyperException for an unknown option, and for a missing value or argument, UsageError for an empty name."""
        typed, rest, _ = self.make_parser(ctx).parse_args(args=args)
        _check_names(self.get_params(ctx), typed)
        parameters: list[Any] = sorted(self.get_params(ctx), key=lambda parameter: not parameter.is_eager)
        for parameter in parameters:
            value = typed.get(parameter.name)
            if value if parameter.is_eager else parameter.required and value is None:
                parameter.handle_parse_result(ctx, typed, [])  # --help, or the error
            elif parameter.expose_value:
                ctx.params[parameter.name] = parameter.default if value is None else value
        ctx.args = rest
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Raises UsageError for words that the command does not take."""
        if ctx.args:
            raise UsageError(f"unexpected argument {ctx.args[0]!r}", hint=f"{ctx.command_path} --help")
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [p.metavar or "" for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return [self.options_metavar or "", *arguments]

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        write_usage(self, ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for name, records in grouped_options(self, ctx).items():
            write_section(formatter, name, records)
        if self.examples:
            formatter.write_paragraph()
            formatter.write(heading("Examples") + ":\n")
            for line, meaning in self.examples:
                formatter.write(f"  {line}\n      {meaning}\n")


def _check_names(parameters: Sequence[Any], typed: Mapping[str, Any]) -> None:
    """An empty name is that of an unset variable in a script, and means nothing. Raises UsageError."""
    for parameter in parameters:
        given = typed.get(parameter.name)
        if parameter.name in _NAMES and "" in (given if isinstance(given, (list, tuple)) else (given,)):
            option = parameter.param_type_name == "option"
            shown = parameter.opts[0] if option else (parameter.metavar or parameter.name).strip("[].")
            raise UsageError(f"{shown} is empty", hint="is a variable unset?")


def help_settings() -> dict[str, Any]:
    """How wide help is: at most 100 columns, and as narrow as the window."""
    width = max(18, min(_WIDE, shutil.get_terminal_size().columns))
    return {"help_option_names": ["-h", "--help"], "terminal_width": width - 2}


def heading(text: str) -> str:
    return paint(text, "heading", sys.stdout)


def write_usage(command: Any, ctx: Any, formatter: Any) -> None:
    pieces = " ".join(command.collect_usage_pieces(ctx))
    formatter.write_usage(ctx.command_path, pieces, prefix=f"{heading('Usage')}: ")


def write_section(formatter: Any, name: str, rows: list[tuple[str, str]]) -> None:
    with formatter.section(heading(name)):
        formatter.write_dl(rows, col_max=4 if formatter.width < _NARROW - 2 else 30)


def grouped_options(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Title of a group, in the order of the help → (flags, what they do)."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and parameter.param_type_name == "option":
            groups.setdefault(getattr(parameter, "rich_help_panel", None) or _OTHER, []).append(record)
    return {name: groups[name] for name in sorted(groups, key=_ORDER.index)}
