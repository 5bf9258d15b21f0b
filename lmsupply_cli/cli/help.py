"""`lmsupply COMMAND --help`: the options in groups, then examples."""

from __future__ import annotations

from typing import Any

from typer.core import TyperArgument, TyperCommand

MODEL, INPUT, OUTPUT = "Model", "Input", "Output"
STRUCTURED, BATCH = "Structured output", "Batches"
SAMPLING, ENGINE = "Sampling", "Engine"
_OTHER = "Options"
_ORDER = (INPUT, MODEL, OUTPUT, STRUCTURED, BATCH, SAMPLING, ENGINE, _OTHER)


class HelpCommand(TyperCommand):
    """`examples`: (command line, what it does), set by who makes the command."""

    examples: tuple[tuple[str, str], ...] = ()

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for name, records in grouped_options(self, ctx).items():
            with formatter.section(name):
                formatter.write_dl(records)
        if self.examples:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for line, meaning in self.examples:
                formatter.write(f"  {line}\n      {meaning}\n")


def grouped_options(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Title of a group, in the order of the help → (flags, what they do)."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None and not isinstance(parameter, TyperArgument):
            groups.setdefault(getattr(parameter, "rich_help_panel", None) or _OTHER, []).append(record)
    return {name: groups[name] for name in sorted(groups, key=_ORDER.index)}
