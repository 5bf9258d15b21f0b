"""models, hw, completion, help, version and lmsupply alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import lmsupply

import lmsupply_cli
from lmsupply_cli.cli.app import COMMANDS

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = {"bash": "lmsupply.bash", "zsh": "lmsupply.zsh", "fish": "lmsupply.fish", "powershell": "lmsupply.ps1"}


def test_alone_it_says_the_five_things_to_do_next() -> None:
    result = lmsupply()
    assert result.code == 0
    assert sum(line.startswith("  lmsupply ") for line in result.out.splitlines()) == 5


def test_alone_it_fits_any_width() -> None:
    for columns in (40, 60, 80):
        result = lmsupply(COLUMNS=str(columns))
        assert sum(line.startswith("  lmsupply ") for line in result.out.splitlines()) == 5
        assert max(map(len, result.out.splitlines())) <= max(columns, 50)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("info",), "lmsupply show MODEL; lmsupply models lists the models"),
        (("download",), "lmsupply pull MODEL; lmsupply models lists the models"),
        (("pull",), "lmsupply pull MODEL; lmsupply models lists the models"),
        (("add",), "lmsupply add PATH"),
        (("search",), "lmsupply search TEXT"),
    ],
)
def test_a_missing_argument_is_shown_in_its_place(words: tuple[str, ...], hint: str) -> None:
    result = lmsupply(*words)
    assert (result.code, result.err.splitlines()[1]) == (2, f"hint: {hint}")


def test_an_option_is_never_taken_for_an_argument() -> None:
    assert lmsupply("add", "x", "--folder", "y").err.endswith("hint: lmsupply add --help\n")


def test_version() -> None:
    assert lmsupply("--version").out == f"lmsupply {lmsupply_cli.__version__}\n"


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_on_everything(name: str) -> None:
    for flag in ("--help", "-h"):
        result = lmsupply(*([name] if name else []), flag)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("Usage: lmsupply")


def test_models_lists_the_guide_first_with_its_license() -> None:
    lines = lmsupply("models").out.splitlines()
    assert lines[0].split() == ["MODEL", "INSTALLED", "SIZE", "FITS", "PARAMETERS", "CONTEXT", "LICENSE", "ROLES"]
    assert lines[1].split() == ["guide", "built", "in", "1.9", "MB", "yes", "2.5M", "1,024", "MIT"]
    end = lines[0].index("SIZE") + len("SIZE")
    assert all(line[:end].endswith(("B", "?")) for line in lines[1:-1]), "numbers are aligned at the right"
    assert lines[-1].startswith("Download one: lmsupply pull MODEL.")
    assert lmsupply("models", "--paths").out.splitlines()[-1] == (
        f"Models are stored in {os.environ['LMSUPPLY_HOME']}/cache"
    )


def test_models_names_the_roles() -> None:
    rows = {line.split()[0]: line for line in lmsupply("models", "phi").out.splitlines()[1:]}
    assert "default" in rows["phi-4-mini"]
    assert rows["phi-4-mini-reasoning"].endswith("reasoning")
    assert "multilingual" in lmsupply("models", "--help").out


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [
        (["--family", "nope"], "Families: deepseek, gemma,"),
        (["--role", "smart"], "Roles: default, fast,"),
        (["--license", "foo"], "Licenses: Apache-2.0, Gemma,"),
        (["xyz"], "Families: "),
        (["xyz", "--family", "phi"], "Roles: "),
    ],
)
def test_models_says_what_a_filter_may_be_where_nothing_matches(arguments: list[str], valid: str) -> None:
    result = lmsupply("models", *arguments)
    assert (result.code, result.out) == (0, "")
    assert result.err.startswith("No model matches ")
    assert f"\n{valid}" in result.err
    assert lmsupply("models", *arguments, "--json").json["models"] == []
    assert lmsupply("models", *arguments, "-q").output == ""


def test_models_as_json_and_filters() -> None:
    rows = lmsupply("models", "--json").json["models"]
    assert list(rows[0]) == [
        "ref", "aliases", "repo", "family", "parameters", "context_length", "license", "variant", "size_bytes",
        "installed", "allowed", "external", "fits", "last_used", "path",
    ]  # fmt: skip
    assert rows[0]["ref"] == "guide"
    assert rows[0]["installed"]
    assert lmsupply("models", "-q", "--license", "apache-2.0", "4b").out == "qwen3-4b\n"
    assert lmsupply("models", "-q", "--license-tier", "conditional").out.split() == [
        "llama-3.2-1b",
        "llama-3.2-3b",
        "gemma-3-1b",
    ]
    assert lmsupply("models", "-q", "--installed").out == "guide\n"
    for option in ("--json", "--paths"):
        assert f"--quiet and {option} can't be combined" in lmsupply("models", "-q", option).err
    bad = lmsupply("models", "--license-tier", "free")
    assert bad.code == 2
    assert "license tiers: permissive, conditional, research, unknown" in bad.err


def test_hw_shows_the_machine_and_the_engine() -> None:
    result = lmsupply("hw")
    rows = [line.split(maxsplit=1) for line in result.out.splitlines()]
    wanted = ["Hardware", "Engine", "Providers", "Use", "Recommended", "Settings", "Models"]
    assert list(dict.fromkeys(name for name, _ in rows if name not in ("GPU", "NPU", "Note"))) == wanted
    assert ["Providers", "✓ cpu"] in rows
    assert any(value.startswith("✗ cuda: ") or value.startswith("✓ cuda") for _, value in rows)
    assert "onnxruntime-genai 0.18" in result.out
    assert re.search(r"(?m)^Recommended  (\S+) \(.* download, .* in memory\): lmsupply pull \1$", result.out)
    assert len(rows) <= 20


def test_hw_as_json() -> None:
    found = lmsupply("hw", "--json").json
    assert found["schema"] == 2
    assert found["cpu"]["threads"] >= 1
    assert found["memory"]["total_bytes"] > 1e9
    assert [p["name"] for p in found["providers"]] == ["cuda", "dml", "webgpu", "cpu"]
    assert found["recommendation"]["reasons"]
    assert {row["ref"] for row in found["models"]} >= {"phi-3.5", "gpt-oss-20b"}


def test_hw_lists_models_when_asked() -> None:
    assert "phi-3-mini-4k" not in lmsupply("hw").out
    _, table = lmsupply("hw", "--models").out.split("\n\n")
    header, *rows = table.splitlines()
    assert header.split(maxsplit=4) == ["MODEL", "DOWNLOAD", "MEMORY", "FITS", "MAX CONTEXT"]
    at = header.index("FITS")
    fits = [row[at:].split()[0] for row in rows]
    assert fits == sorted(fits, key=["yes", "?", "no"].index), "those that fit first"
    assert not any("int4" in row for row in rows)


def test_hw_check_runs_the_guide_for_real() -> None:
    result = lmsupply("hw", "--check")
    assert result.code == 0
    assert "cpu works: loaded in" in result.out


def test_a_mistyped_command() -> None:
    result = lmsupply("chta")
    assert result.code == 2
    assert "'chta'" in result.err
    assert "'chat'" in result.err


@pytest.mark.parametrize("shell", SCRIPTS)
def test_completion_scripts_are_not_stale(shell: str) -> None:
    assert lmsupply("completion", shell).out == (ROOT / "completions" / SCRIPTS[shell]).read_text(encoding="utf-8")


def test_completion_of_another_shell() -> None:
    result = lmsupply("completion", "tcsh")
    assert result.code == 2
    assert "bash, zsh, fish, powershell" in result.err


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["ch"], "chat"),
        (["run", "--temper"], "--temperature"),
        (["run", "-m", "phi-4-mini-r"], "phi-4-mini-reasoning"),
        (["chat", "gui"], "guide"),
        (["pull", "qwen3-4"], "qwen3-4b"),
        (["rm", "--par"], "--partial"),
        (["run", "--provider", "w"], "webgpu"),
        (["run", "--preset", "cr"], "creative"),
        (["completion", "z"], "zsh"),
        (["run", "--speculative", "n"], "ngram"),
        (["run", "--format", ""], "json"),
        (["chat", "--chat-format", "mistral-t"], "mistral-tekken"),
        (["run", "--model=gui"], "--model=guide"),
        (["run", "--think=o"], "--think=on"),
        (["run", "-m", "role:fa"], "role:fast"),
        (["pull", "role:fa"], "role:fast"),
        (["models", "--sort", ""], "name"),
        (["models", "--role=f"], "--role=fast"),
        (["models", "--license-tier", "c"], "conditional"),
        (["pull", "--precision", "f"], "fp16"),
        (["config", "set", "auto_p"], "auto_pull"),
        (["config", "set", "think", ""], "on"),
        (["config", "set", "offline", ""], "on"),
        (["config", "set", "default_model", "phi-4-mini-r"], "phi-4-mini-reasoning"),
        (["pull", "--offline", "qwen3-4"], "qwen3-4b"),
        (["pull", "--", "qwen3-4"], "qwen3-4b"),
        (["ls", "--so"], "--sort"),
        (["download", "qwen3-4"], "qwen3-4b"),
        (["help", "ver"], "verify"),
        (["run", "guide", "--", "--"], None),
        (["run", "--", "gui"], None),
        (["add", ".", ""], None),
        (["add", ".", "--al"], None),
        (["config", "set", "seed", ""], None),
        (["chat", "--resume", ""], None),
        (["nope", ""], None),
    ],
)
def test_completion_of_words(words: list[str], first: str | None) -> None:
    result = lmsupply(*words, _LMSUPPLY_COMPLETE="bash")
    assert (result.code, result.err) == (0, "")
    assert (result.out.split("\t")[0] if result.out else None) == first


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-f", ""], ["run", "-f="], ["run", "--batch", ""], ["run", "--json-schema", ""], ["run", "--cache-dir", ""],
        ["add", ""], ["config", "set", "cache_dir", ""],
    ],
)  # fmt: skip
def test_file_names_are_left_to_the_shell(words: list[str]) -> None:
    result = lmsupply(*words, _LMSUPPLY_COMPLETE="bash")
    assert (result.code, result.out, result.err) == (1, "", "")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "words", "replies"),
    [
        ("lmsupply run --model=gui", ["lmsupply", "run", "--model", "=", "gui"], ["guide"]),
        ("lmsupply run --think=", ["lmsupply", "run", "--think", "="], ["on", "hide", "off"]),
        ("lmsupply run -m role:fa", ["lmsupply", "run", "-m", "role", ":", "fa"], ["fast"]),
        ("lmsupply  pull  qwen3-4", ["lmsupply", "pull", "qwen3-4"], ["qwen3-4b"]),
        ("lmsupply rm ", ["lmsupply", "rm", ""], []),
    ],
)
def test_bash_breaks_words_at_equals_and_colon(line: str, words: list[str], replies: list[str], tmp_path: Path) -> None:
    program = tmp_path / "lmsupply"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lmsupply_cli "$@"\n')
    program.chmod(0o755)
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"source {ROOT / 'completions' / 'lmsupply.bash'}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        f"COMP_LINE='{line}'; COMP_POINT={len(line)}; _lmsupply; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    environ = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout.split() == replies


@pytest.mark.parametrize(
    ("words", "same"),
    [
        (["ls", "-q"], ["models", "--installed", "-q"]),
        (["list", "--json"], ["models", "--installed", "--json"]),
        (["info", "guide", "--json"], ["show", "guide", "--json"]),  # without it, free memory is shown too
        (["info", "nothing"], ["show", "nothing"]),
        (["version"], ["--version"]),
        (["help"], ["--help"]),
        (["help", "run"], ["run", "--help"]),
        (["help", "ls"], ["models", "--help"]),
        (["remove"], ["rm"]),
    ],
)
def test_words_of_other_tools(words: list[str], same: list[str]) -> None:
    assert lmsupply(*words) == lmsupply(*same)
    assert words[0] not in COMMANDS


@pytest.mark.parametrize(("word", "hint"), [("load", "run and chat"), ("upgrade", "pip install -U"), ("ask", "run")])
def test_words_of_other_tools_for_what_is_not_here(word: str, hint: str) -> None:
    result = lmsupply(word, "x")
    assert result.code == 2
    assert f"error: no such command: {word}\nhint: " in result.err
    assert hint in result.err


HEAVY = (
    "onnxruntime_genai", "onnxruntime", "huggingface_hub", "rich.markdown", "prompt_toolkit", "numpy", "jinja2", "pydantic",
    "lmsupply_cli.catalogue.acceptance", "lmsupply_cli.chat", "lmsupply_cli.generation", "starlette", "uvicorn", "asyncio",
    *(["psutil"] if sys.platform == "linux" else []),
)  # fmt: skip
LIGHT = [
    ["--version"],
    ["--help"],
    ["run", "--help"],
    ["serve", "--help"],
    ["models"],
    ["models", "--json"],
    ["models", "phi", "--license", "MIT", "--sort", "size"],
    ["config", "list", "--all"],
    ["hw"],
    ["hw", "--json"],
    ["completion", "bash"],
    [],
]


def test_run_imports_no_plan_of_a_pull() -> None:
    unused = ("pydantic", "lmsupply_cli.hub.resolve", "lmsupply_cli.loading.recommend", "lmsupply_cli.chats.archive")
    program = (
        "import sys\nfrom lmsupply_cli.cli.app import main\nmain(['run', 'thanks', '--max-tokens', '1'])\n"
        f"print([m for m in {unused!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, input="")
    note, *_, imported = done.stderr.splitlines()
    assert note.endswith("the built-in guide answers; get one for this machine: lmsupply pull role:default")
    assert imported == "[]"


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom lmsupply_cli.cli.app import main\n"
        f"code = main({arguments!r})\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[] 0"
    completing = subprocess.run(
        [sys.executable, "-c", f"import os\nos.environ['_LMSUPPLY_COMPLETE'] = 'bash'\n{program}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert completing.stderr.splitlines()[-1] == "[] 0"
