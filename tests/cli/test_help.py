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


def test_usage_names_the_arguments_as_they_are_typed() -> None:
    assert lmsupply("run", "--help").out.startswith("Usage: lmsupply run [OPTIONS] [MODEL] [PROMPT]...\n")
    assert lmsupply("search", "-h").out.startswith("Usage: lmsupply search [OPTIONS] TEXT...\n")
    assert lmsupply("--help", "run").out == lmsupply("-h").out


def test_help_comes_before_what_is_missing() -> None:
    assert lmsupply("search", "--help").code == 0
    missing = lmsupply("search")
    assert (missing.code, missing.err) == (2, "error: missing argument 'TEXT...'\nhint: lmsupply search TEXT\n")


@pytest.mark.parametrize("limit", ["0", "101", "x", "1.5", ""])
def test_a_limit_is_a_whole_number(limit: str) -> None:
    result = lmsupply("search", "phi", "--limit", limit)
    assert result.code == 2
    assert result.err == f"error: --limit must be a whole number from 1 to 100, not {limit!r}\n"


def test_help_is_readable_in_40_columns() -> None:
    for name in COMMANDS:
        usage = lmsupply(name, "--help", COLUMNS="40").out.split("Examples:")[0]
        assert max(map(len, usage.splitlines())) <= 64


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["why is the sky blue"], "to ask it: lmsupply run 'why is the sky blue'"),
        (["prompt", "hi"], "lmsupply run MODEL PROMPT"),
        (["run", "--num-predict", "5", "hi"], "use --max-tokens"),
        (["run", "--num-ctx=9", "hi"], "use --context"),
        (["run", "--verbose", "hi"], "use --stats"),
        (["pull", "--verbose", "x"], "lmsupply pull --help"),
    ],
)
def test_habits_of_other_tools_lead_to_ours(words: list[str], hint: str) -> None:
    result = lmsupply(*words)
    assert result.code == 2
    assert result.err.endswith(f"\nhint: {hint}\n")
