"""`lmsupply COMMAND --help`: the options in groups, then examples."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand

from lmsupply_cli.errors import UsageError

MODEL, INPUT, OUTPUT = "Model", "Input", "Output"
STRUCTURED, BATCH = "Structured output", "Batches"
SAMPLING, ENGINE = "Sampling", "Engine"
_OTHER = "Options"
_ORDER = (INPUT, MODEL, OUTPUT, STRUCTURED, BATCH, SAMPLING, ENGINE, _OTHER)


class HelpCommand(TyperCommand):
    """`examples`: (command line, what it does), set by who makes the command."""

    examples: tuple[tuple[str, str], ...] = ()

    def invoke(self, ctx: Any) -> Any:
        """Raises UsageError for words that the command does not take."""
        if ctx.args:
            raise UsageError(f"unexpected argument {ctx.args[0]!r}", hint=f"{ctx.command_path} --help")
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, TyperArgument):
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or _OTHER, []).append(record)
        for name in sorted(groups, key=_ORDER.index):
            with formatter.section(name):
                formatter.write_dl(groups[name])
        if self.examples:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for line, meaning in self.examples:
                formatter.write(f"  {line}\n      {meaning}\n")
