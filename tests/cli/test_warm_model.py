"""run, chat, ps and stop with a server that runs: the same results with its model as without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.cli import Result
from support.served import Served, served

from lmsupply_cli import ChatMessage, ChatSession, Guidance, load
from lmsupply_cli._version import __version__
from lmsupply_cli.cli.ps import _expiry
from lmsupply_cli.cli.warm import servers_of
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.tokenizer import load_tokenizer
from lmsupply_cli.errors import ContextOverflow, DoesNotFit, UsageError
from lmsupply_cli.events import Finished, GenerationEvent, TextDelta
from lmsupply_cli.loading.formats import read_format
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving import wire
from lmsupply_cli.serving.remote import RemoteGenerator, RemoteLimits, RemotePrompter
from lmsupply_cli.serving.requests import LoadedWorker
from lmsupply_cli.serving.running import RunningServer
from lmsupply_cli.serving.server_client import ServerClient
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.locate import guide

ASK = "How do I list my models?"
COLORS = '{"type": "object", "properties": {"color": {"enum": ["red", "green"]}}, "required": ["color"]}'
LONG = "word " * 3000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("warm"), "guide", LMSUPPLY_API_KEY="k3y") as found:
        yield found


def both(server: Served, *arguments: str, stdin: str = "") -> tuple[Result, Result]:
    """What `run` says with the server and without it, after a look that only one of them used it."""
    before = server.answered()
    warm = server.lmsupply("run", "-m", "guide", *arguments, stdin=stdin)
    between = server.answered()
    cold = server.lmsupply("run", "-m", "guide", *arguments, "--no-server", stdin=stdin)
    assert between - before == (warm.code in (0, 1))  # 1: an answer that was cut
    assert server.answered() == between
    return warm, cold


def without_times(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = result.json
    assert found.pop("timings", {"load_s": 0}).keys() >= {"load_s"}
    if "usage" in found:
        assert found["usage"].pop("cached_tokens") >= 0
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        (ASK, "--temperature", "0"),
        (ASK, "--temperature", "1.5", "--seed", "7"),
        (ASK, "--seed", "7", "--top-k", "3", "--min-p", "0.1", "--repetition-penalty", "1.4"),
        (ASK, "--seed", "7", "--presence-penalty", "1", "--frequency-penalty", "0.5", "--logit-bias", "40=5"),
        (ASK, "--temperature", "0", "--max-tokens", "5"),
        (ASK, "--temperature", "0", "--stop", "models"),
        (ASK, "--temperature", "0", "-s", "You are brief.", "--no-stream"),
        (ASK, "--json-schema", COLORS, "--seed", "3"),
        (ASK, "--regex", "(yes|no), [a-z]{3}", "--seed", "3"),
        (ASK, "--format", "json", "--max-tokens", "3", "--seed", "3"),  # cut: exit code 1
        ("--raw", "-p", "lmsupply", "--temperature", "0", "--max-tokens", "8", "--min-length", "8"),
        (ASK, "--num-beams", "2", "--max-tokens", "8"),
        (LONG, "--on-overflow", "truncate-end", "--temperature", "0", "--max-tokens", "8"),
        (LONG, "--on-overflow", "truncate-start", "--temperature", "0", "--max-tokens", "8"),
        (ASK, "--min-length", "30", "--temperature", "0", "--max-tokens", "40"),
        (ASK, "--think", "off", "--temperature", "0"),
    ],
)
def test_text_and_json_are_the_same(server: Served, arguments: tuple[str, ...]) -> None:
    warm, cold = both(server, *arguments)
    assert (warm.code, warm.out, warm.err) == (cold.code, cold.out, cold.err)
    assert warm.out.strip()
    warm, cold = both(server, *arguments, "--json")
    assert warm.code == cold.code
    assert without_times(warm) == without_times(cold)


def test_logprobs_are_the_same(server: Served) -> None:
    warm, cold = both(server, ASK, "--json", "--top-logprobs", "3", "--temperature", "0", "--max-tokens", "6")
    ours, theirs = (result.json["logprobs"] for result in (warm, cold))
    assert [row["text"] for row in ours] == [row["text"] for row in theirs]
    assert [row["logprob"] for row in ours] == pytest.approx([row["logprob"] for row in theirs], abs=1e-3)
    assert [len(row["top"]) for row in ours] == [3] * 6


def test_events_are_the_same(server: Served) -> None:
    warm, cold = both(server, ASK, "--stream-json", "--temperature", "0")

    def shape(result: Result) -> tuple[list[str], str, dict[str, Any], dict[str, Any]]:
        rows = result.json_lines
        kinds = list(dict.fromkeys(row["type"] for row in rows))
        text = "".join(row["text"] for row in rows if row["type"] == "delta")
        last = {key: value for key, value in rows[-1].items() if key not in ("timings", "usage")}
        return kinds, text, rows[0], last

    assert shape(warm) == shape(cold)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((LONG,), 4),
        ((ASK, "--logit-bias", "9999999=1"), 2),
        ((ASK, "--num-beams", "2", "--regex", "a+"), 2),
        ((ASK, "--regex", "(?=a)b"), 2),
        ((ASK, "--temperature", "-1"), 2),
    ],
)
def test_errors_are_the_same(server: Served, arguments: tuple[str, ...], code: int) -> None:
    warm, cold = both(server, *arguments)
    assert (warm.code, warm.out, warm.err) == (cold.code, cold.out, cold.err)
    assert warm.code == code
    assert both(server, *arguments, "--json")[0].json["error"]["code"] == cold_code(cold)


def cold_code(result: Result) -> str:
    return {2: "usage", 4: "context_overflow"}[result.code]


def test_an_answer_that_continues(server: Served) -> None:
    def conversation(*more: str) -> tuple[str, str]:
        server.lmsupply("run", "-m", "guide", "hello", "--temperature", "0", *more)
        result = server.lmsupply("run", "--continue", "thanks", "--temperature", "0", *more)
        return result.out, result.err

    assert conversation() == conversation("--no-server")


def test_stats_say_where_the_model_is(server: Served) -> None:
    warm, cold = both(server, ASK, "--stats", "--temperature", "0")
    assert f"on the server at {server.url}" in warm.err
    assert "server" not in cold.err
    assert warm.out == cold.out


def test_a_dry_run_says_who_would_answer(server: Served) -> None:
    found = server.lmsupply("run", "-m", "guide", "--dry-run", "--json").json
    assert [notice["code"] for notice in found["notices"]] == ["server"]
    assert server.url in found["notices"][0]["text"]
    assert server.lmsupply("run", "-m", "guide", "--dry-run", "--json", "--no-server").json["notices"] == []


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("--context", "512", "--context"),
        ("--threads", "1", "--threads"),
        ("--memory-limit", "2GB", "--memory-limit"),
        ("--chat-format", "chatml", "--chat-format"),
        ("--speculative", "ngram", "--speculative"),
        ("--provider", "cpu", ""),  # what it runs on
    ],
)
def test_a_model_that_was_loaded_otherwise_is_not_used(server: Served, option: str, value: str, name: str) -> None:
    before = server.answered()
    arguments = ("run", "-m", "guide", ASK, "--temperature", "0", "--json", option, value)
    found = server.lmsupply(*arguments).json
    assert server.answered() - before == (not name)
    notices = [notice for notice in found["notices"] if notice["code"] == "server"]
    assert bool(notices) == bool(name)
    for notice in notices:
        assert name in notice["text"]
    assert found["text"] == server.lmsupply(*arguments, "--no-server").json["text"]


def test_another_store_has_other_models(server: Served, tmp_path: Any) -> None:
    before = server.answered()
    assert server.lmsupply("run", "-m", "guide", ASK, "--cache-dir", str(tmp_path)).code == 0
    assert server.answered() == before


def test_only_servers_of_this_version_with_a_token_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    ours = RunningServer("http://127.0.0.1:1", 1, 1.0, __version__, False, str(tmp_path), "t")
    others = [replace(ours, version="0.0.1"), replace(ours, root="/other"), replace(ours, token="")]
    monkeypatch.setattr(RunningServer, "all", classmethod(lambda cls: [*others, ours]))
    assert servers_of(tmp_path) == [ours]


def test_a_command_without_a_server_imports_no_client() -> None:
    code = "import sys, lmsupply_cli.cli.warm as w; from pathlib import Path; print(w.servers_of(Path('/x')));"
    code += "print('http.client' in sys.modules, 'lmsupply_cli.serving.remote' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False", "False"]


# ps and stop


def test_ps_shows_what_is_in_memory(server: Served) -> None:
    found = server.lmsupply("ps")
    header, row = found.out.splitlines()
    assert header.split() == ["MODEL", "MEMORY", "CONTEXT", "PROVIDER", "UNLOADED", "RUNNING", "WAITING", "ANSWERED"]
    assert row.split()[0] == "guide"
    assert "never" in row
    whole = server.lmsupply("ps", "--json").json
    assert whole["schema"] == 2
    assert [one["url"] for one in whole["servers"]] == [server.url]
    (model,) = whole["models"]
    assert model["memory_bytes"] > 10_000_000
    assert (model["server"], model["ref"], model["pinned"], model["expires_s"]) == (server.url, "guide", True, None)
    assert (model["running"], model["waiting"]) == (0, 0)


@pytest.mark.parametrize(
    ("pinned", "expires_s", "running", "text"),
    [(True, 5.0, 0, "never"), (False, None, 1, "never"), (False, 600.0, 0, "in 10m00s"), (False, 600.0, 1, "in use")],
)
def test_when_a_model_is_unloaded(pinned: bool, expires_s: float | None, running: int, text: str) -> None:
    assert _expiry(LoadedWorker("tiny", 1, 1, "cpu", 1, pinned, expires_s, running, 0, 0)) == text


def test_stop_unloads_and_the_next_request_loads(server: Served) -> None:
    found = server.lmsupply("stop", "guide")
    assert (found.code, found.out) == (0, "")
    assert found.err.startswith("unloaded guide: ")
    assert server.models() == []
    assert "no model is in memory" in server.lmsupply("ps").err
    found = server.lmsupply("stop", "guide")
    assert (found.code, found.err) == (1, "error: guide is not in memory\n")
    assert server.lmsupply("stop", "--all", "--json").json == {"schema": 2, "unloaded": []}
    assert server.lmsupply("run", "-m", "guide", ASK, "--json").json["notices"] == []  # it is not warm: loaded there
    assert server.models() == []
    load_it(server)
    (row,) = server.lmsupply("stop", "--all", "--json").json["unloaded"]
    assert (row["ref"], row["server"]) == ("guide", server.url)
    load_it(server)


def load_it(server: Served) -> None:
    record = json.loads(next((server.home / "state" / "servers").glob("*.json")).read_text())
    ServerClient(RunningServer(**record)).call(wire.LOAD, model="guide")


def test_stop_needs_to_know_what(server: Served) -> None:
    assert server.lmsupply("stop").code == 2
    assert server.lmsupply("stop", "guide", "--all").code == 2
    found = server.lmsupply("stop", "no-such-model")
    assert (found.code, "no-such-model" in found.err) == (1, True)


# the generator, beside one that is loaded here


@pytest.fixture(scope="module")
def remote(server: Served) -> RemoteGenerator:
    record = json.loads(next((server.home / "state" / "servers").glob("*.json")).read_text())
    folder = open_model(guide())
    chosen = read_format(folder)
    client = ServerClient(RunningServer(**record))
    row = client.call(wire.WARM, model="guide")["model"]
    with load("guide") as local:
        return RemoteGenerator(
            client,
            local.info,
            RemotePrompter(chosen.format, load_tokenizer(folder, visible=chosen.visible)),
            RemoteLimits(row["context_tokens"], row["context_tokens"], folder.model["vocab_size"]),
            options=replace(local.options, temperature=0.0),
        )


def text_of(events: Iterator[GenerationEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_a_session_is_the_same_as_here(remote: RemoteGenerator) -> None:
    def talk(session: ChatSession[Any]) -> list[str]:
        said = [text_of(session.send("hello")), text_of(session.send("How do I pull a model?", max_tokens=4))]
        said += [text_of(session.resume()), text_of(session.regenerate())]
        session.guidance = Guidance.regex("(red|green)")
        said += [text_of(session.send("Which color?")), session.prompt_text(), str(session.used_tokens())]
        return said

    with load("guide", options=remote.options) as local:
        assert talk(ChatSession(remote, system="Be brief.")) == talk(ChatSession(local, system="Be brief."))
    assert remote.cached_tokens > 0


def test_a_session_with_tools_is_the_same_as_here(remote: RemoteGenerator) -> None:
    tool = {"name": "weather", "parameters": json.loads(COLORS)}

    def talk(session: ChatSession[Any]) -> list[Any]:
        events = list(session.send("hi", tool_choice="required", max_tokens=60))
        for call in session.pending_calls:
            session.add_result(call.id, "rain")
        calls = [(call.name, call.arguments) for message in session.messages for call in message.tool_calls]
        return [calls, text_of(session.resume(max_tokens=12)), text_of(session.resume(max_tokens=12)), events[-1:]]

    with load("guide", options=remote.options) as local:
        ours, theirs = talk(ChatSession(remote, tools=[tool])), talk(ChatSession(local, tools=[tool]))
    assert ours[:3] == theirs[:3]
    assert ours[0]
    assert ours[3][0].finish_reason == theirs[3][0].finish_reason


def test_a_smaller_context_ends_the_answer(remote: RemoteGenerator) -> None:
    whole = remote.context_tokens
    prompt = remote.prompter.chat([ChatMessage.user("hello")])
    try:
        remote.resize_context(len(prompt.ids) + 3)
        *_, last = remote.stream_prompt(prompt, replace(remote.options, min_length=20))
        assert isinstance(last, Finished)
        assert (last.finish_reason, last.cut_by, last.usage.completion_tokens) == ("length", "context", 3)
        remote.resize_context(len(prompt.ids))
        with pytest.raises(ContextOverflow):
            list(remote.stream_prompt(prompt))
        with pytest.raises(UsageError):
            remote.resize_context(10**9)
    finally:
        remote.resize_context(whole)


def test_a_larger_context_than_the_server_has(remote: RemoteGenerator) -> None:
    small = RemoteGenerator(
        remote.client, remote.info, remote.prompter, RemoteLimits(100, 1000, 10), options=GenerationOptions()
    )
    with pytest.raises(DoesNotFit, match="100 tokens"):
        small.resize_context(200)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, []),
        ({"threads": 2, "context": 1024}, []),
        ({"threads": 3}, ["threads"]),
        ({"context": 512, "provider": "cuda"}, ["provider", "context"]),
        ({"provider": "cpu"}, []),
        ({"chat_format": "chatml"}, ["chat_format"]),
        ({"memory_limit": "2GB"}, ["memory_limit"]),
        ({"memory_limit": "1GB"}, []),
        ({"draft_tokens": 7}, []),
        ({"speculative": "ngram", "draft_tokens": 7}, ["speculative", "draft_tokens"]),
        ({"trust_model_files": True}, ["trust_model_files"]),
        ({"enable_thinking": False}, []),
    ],
)
def test_what_differs(wanted: dict[str, Any], names: list[str]) -> None:
    loaded = {
        "provider": "auto",
        "context": None,
        "memory_limit": 10**9,
        "trust_model_files": False,
        "chat_format": "",
        "speculative": "off",
        "draft_tokens": 4,
    }
    row = wire.WarmRow("tiny", "/tiny", "cpu", 2, 1024, 1024, loaded, ())
    assert row.differences(LoadOptions(**wanted)) == names
    fixed = replace(row, load=loaded | {"context": 1024, "provider": "cpu"})
    assert fixed.differences(LoadOptions()) == ["provider", "context"]
