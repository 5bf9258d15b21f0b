from __future__ import annotations

import re
import shlex

import pytest
from support.cli import lmsupply

from lmsupply_cli.cli.app import COMMANDS, load_command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_it_takes(name: str) -> None:
    command = load_command(name)
    assert command.examples, "EXAMPLES in the command's module"
    shown = lmsupply(name, "--help", COLUMNS="200").out
    known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    for line, meaning in command.examples:
        assert line in shown
        assert meaning in shown
        ours = line[line.index("lmsupply ") :]
        words = shlex.split(ours)
        assert words[1] == name or words[1] in COMMANDS
        if words[1] == name:
            assert {word for word in words if re.match(r"--?[a-z]", word)} <= known


def test_the_options_of_run_are_in_groups() -> None:
    found = re.findall(r"^(\w[\w ]*):$", lmsupply("run", "--help").out, re.MULTILINE)
    assert found == [
        "Input", "Model", "Output", "Structured output", "Batches", "Sampling", "Engine", "Options", "Examples",
    ]  # fmt: skip


def test_help_is_readable_in_40_columns() -> None:
    for name in COMMANDS:
        usage = lmsupply(name, "--help", COLUMNS="40").out.split("Examples:")[0]
        assert max(map(len, usage.splitlines())) <= 64
