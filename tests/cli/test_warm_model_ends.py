"""A server's model that is interrupted, and a server that ends while it answers. And the chat, in a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.chat import Chat
from support.served import Served, served

ENDLESS = (
    "--raw",
    "-p",
    "x",
    "--min-length",
    "1000",
    "--seed",
    "1",
    "--temperature",
    "2",
    "--no-stdin",
    "--stream-json",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("ends"), "guide") as found:
        yield found


def begun(server: Served, *arguments: str) -> subprocess.Popen[str]:
    """`run`, once the first piece of its answer has come."""
    command = [sys.executable, "-m", "lmsupply_cli", "run", "-m", "guide", *ENDLESS, *arguments]
    process = subprocess.Popen(
        command,
        env=os.environ | {"LMSUPPLY_HOME": str(server.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    while json.loads(process.stdout.readline())["type"] != "delta":
        continue
    return process


def test_ctrl_c_ends_the_answer_on_the_server(server: Served) -> None:
    with begun(server) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    last = json.loads(out.splitlines()[-1])
    assert (process.returncode, err) == (130, "")
    assert (last["type"], last["finish_reason"]) == ("finished", "cancelled")
    assert 0 < last["usage"]["completion_tokens"] < 1000
    assert [(row["running"], row["waiting"]) for row in server.models()] == [(0, 0)]


def test_a_command_that_is_killed_ends_the_answer_too(server: Served) -> None:
    with begun(server) as process:
        process.kill()
    while server.models()[0]["running"]:
        continue


def test_the_chat_uses_it_and_its_answers_are_the_same(server: Served) -> None:
    def talk(*arguments: str) -> tuple[str, list[str]]:
        chat = Chat("guide", "--temperature", "0", "--no-save", *arguments, LMSUPPLY_HOME=str(server.home))
        banner = chat.text
        said = [chat.ask(line) for line in ("hello", "/set max_tokens 3", "How do I pull a model?", "/continue")]
        said.append(chat.ask("/set context 2000"))
        chat.leave()
        return banner, said

    (banner, ours), (plain, theirs) = talk(), talk("--no-server")
    assert f"the server at {server.url}" in " ".join(banner.split())
    assert "guide on cpu" in plain
    assert ours[:4] == theirs[:4]


def test_a_server_that_is_killed_in_the_middle(server: Served) -> None:
    with begun(server) as process:
        server.process.kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(out.splitlines()[-1])["error"]["code"] == "server_gone"
    assert f"the server at {server.url} ended while it answered" in err
    assert "--no-server" in err
    server.process.wait()
    assert server.lmsupply("ps", "--json").json["servers"] == []
    assert server.lmsupply("ps").err == "no server is running; lmsupply serve starts one\n"
    assert server.lmsupply("stop", "--all").code == 1
    assert server.lmsupply("run", "-m", "guide", "hello", "--json").json["notices"] == []
