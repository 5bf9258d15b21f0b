"""`lmsupply launch`: what it says, and what it starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.serving import serving, url_in

from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.launching import LaunchPlan, start
from lmsupply_cli.errors import ContextOverflow, UsageError
from lmsupply_cli.server.clients import Server, find_client

KEY = "k3y-of-launch"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Of a server with the guide, and its URL."""
    home = tmp_path_factory.mktemp("launch")
    with serving(home, "guide", "--port", "0", LMSUPPLY_API_KEY=KEY) as (_, greeting):
        yield home, url_in(greeting)


def _plan(context_tokens: int = 32_000) -> LaunchPlan:
    client = find_client("aider")
    server = Server("http://127.0.0.1:1", "qwen3-4b", context_tokens, KEY)
    return LaunchPlan(client, server, client.setup(server), ("--yes",), 62.2, 90.0, 1_500_000)


def test_the_plan_names_what_is_set_and_what_it_costs(home: tuple[Path, str]) -> None:
    found = lmsupply("launch", "claude", "--dry-run", LMSUPPLY_HOME=str(home[0]), LMSUPPLY_API_KEY=KEY)
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0] == f"claude on guide at {home[1]}"
    assert f"  ANTHROPIC_BASE_URL={home[1]}" in lines
    assert "  ANTHROPIC_MODEL=guide" in lines
    assert lines[-1] == (
        "the prompt of claude has about 24,100 tokens, more than the context of 1,024: guide can't run it"
    )
    assert KEY not in found.out + found.err


def test_the_plan_as_json_is_measured(home: tuple[Path, str]) -> None:
    words = ("launch", "aider", "-m", "guide", "--dry-run", "--json", "--", "--yes", "a b")
    plan = lmsupply(*words, LMSUPPLY_HOME=str(home[0]), LMSUPPLY_API_KEY=KEY).json["plan"]
    assert plan["prefill_s"] > 0
    assert plan["prefill_tokens_per_s"] > 0
    assert plan["cache_bytes"] > 1_000_000
    assert plan["fits"] is False
    assert plan["command"][-2:] == ["--yes", "a b"]
    assert KEY not in json.dumps(plan)


def test_a_prompt_beyond_the_context_is_not_started(home: tuple[Path, str]) -> None:
    found = lmsupply("launch", "codex", LMSUPPLY_HOME=str(home[0]), LMSUPPLY_API_KEY=KEY)
    assert (found.code, found.out) == (4, "")
    assert found.err.startswith("error: the prompt of codex has about 8,600 tokens, more than the context of 1,024")


def test_a_missing_key_a_wrong_model_and_no_server(home: tuple[Path, str], tmp_path: Path) -> None:
    found = lmsupply("launch", "codex", LMSUPPLY_HOME=str(home[0]))
    assert (found.code, found.err.splitlines()[-1]) == (2, "hint: set LMSUPPLY_API_KEY")
    found = lmsupply("launch", "codex", "-m", "guid", LMSUPPLY_HOME=str(home[0]), LMSUPPLY_API_KEY=KEY)
    assert (found.code, found.err) == (1, "error: the server has no model guid\nhint: did you mean guide?\n")
    found = lmsupply("launch", "codex", LMSUPPLY_HOME=str(tmp_path))
    assert (found.code, found.err) == (1, "error: no server is running\nhint: start one: lmsupply serve MODEL\n")
    found = lmsupply("launch", "cursor")
    assert (found.code, found.err.splitlines()[0]) == (2, "error: unknown client 'cursor'")
    assert lmsupply("launch", "codex", "--json").code == 2


def test_the_agent_is_started_with_its_variables_and_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "aider"
    program.write_text('#!/bin/sh\necho "$OPENAI_API_BASE $OPENAI_API_KEY $@"\nexit 7\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert start(Context.of(), _plan()) == 7
    said = capfd.readouterr()
    assert said.out == f"http://127.0.0.1:1/v1 {KEY} --model openai/qwen3-4b --no-show-model-warnings --yes\n"
    assert "first answer in about 62 s on this machine, 1.5 MB of KV cache" in said.err
    assert KEY not in said.err


def test_what_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as raised:
        start(Context.of(), _plan())
    assert raised.value.hint == find_client("aider").install
    with pytest.raises(ContextOverflow):
        start(Context.of(), _plan(context_tokens=4096))
