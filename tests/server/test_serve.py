"""`lmsupply serve` with the guide: a real process, a real engine, real HTTP."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.cli import lmsupply
from support.serving import serving, url_in

from lmsupply_cli.serving.running import RunningServer

KEY = "k3y"
MESSAGES = [{"role": "user", "content": "How do I download a model?"}]
ASK = {"model": "guide", "messages": MESSAGES, "temperature": 0}
COLOR = {"type": "object", "properties": {"color": {"enum": ["red", "green"]}}, "required": ["color"]}
LAMP = {"type": "function", "function": {"name": "set_lamp", "parameters": COLOR}}


@dataclass
class Server:
    url: str
    home: Path
    process: subprocess.Popen[str]

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return httpx2.post(self.url + path, json=body, headers={"x-api-key": KEY}, timeout=120)

    def chat(self, **changes: Any) -> dict[str, Any]:
        reply = self.post("/v1/chat/completions", **(ASK | changes))
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("serve")
    with serving(home, "guide", "--port", "0", LMSUPPLY_API_KEY=KEY) as (process, greeting):
        yield Server(url_in(greeting), home, process)


def test_a_greedy_answer_is_that_of_the_command_line(server: Server) -> None:
    found = server.chat()
    run = lmsupply("run", "-m", "guide", "--temperature", "0", MESSAGES[0]["content"], "--no-stdin")
    assert found["choices"][0]["message"]["content"] == run.out.strip()
    assert found["choices"][0]["finish_reason"] == "stop"
    assert found["usage"]["completion_tokens"] > 5


def test_a_stream_is_the_same_answer_in_pieces(server: Server) -> None:
    reply = server.post("/v1/chat/completions", **ASK, stream=True, stream_options={"include_usage": True})
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    pieces = [row["delta"].get("content", "") for chunk in chunks for row in chunk["choices"]]
    assert len(pieces) >= 3
    assert "".join(pieces) == server.chat()["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"]["total_tokens"] > 10


def test_a_conversation_that_continues_reads_only_what_is_new(server: Server) -> None:
    first = server.chat()
    history = [*MESSAGES, first["choices"][0]["message"], {"role": "user", "content": "thanks"}]
    found = server.chat(messages=history)
    assert found["usage"]["prompt_tokens_details"]["cached_tokens"] > first["usage"]["prompt_tokens"] // 2


def test_limits_stops_and_seeds(server: Server) -> None:
    assert server.chat(max_tokens=3)["choices"][0]["finish_reason"] == "length"
    assert server.chat(max_completion_tokens=3)["usage"]["completion_tokens"] == 3
    stopped = server.chat(stop="pull")["choices"][0]
    assert ("pull" in stopped["message"]["content"], stopped["finish_reason"]) == (False, "stop")
    hot = {"temperature": 2.0, "top_p": 1, "top_k": 0, "max_tokens": 12, "seed": 7}
    assert server.chat(**hot)["choices"] == server.chat(**hot)["choices"]
    several = [choice["message"]["content"] for choice in server.chat(**hot, n=3)["choices"]]
    assert several[0] == server.chat(**hot)["choices"][0]["message"]["content"]
    assert several[1] == server.chat(**hot | {"seed": 8})["choices"][0]["message"]["content"]


def test_a_schema_is_followed(server: Server) -> None:
    format = {"type": "json_schema", "json_schema": {"name": "lamp", "schema": COLOR}}
    content = server.chat(response_format=format, temperature=2)["choices"][0]["message"]["content"]
    assert json.loads(content)["color"] in ("red", "green")
    cut = server.chat(response_format={"type": "json_object"}, max_tokens=20)["choices"][0]
    assert cut["message"]["content"].startswith("{")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "set_lamp"}}])
def test_a_tool_that_must_be_called_is_called(server: Server, choice: Any) -> None:
    found = server.chat(tools=[LAMP], tool_choice=choice)["choices"][0]
    assert found["finish_reason"] == "tool_calls"
    function = found["message"]["tool_calls"][0]["function"]
    assert function["name"] == "set_lamp"
    assert json.loads(function["arguments"])["color"] in ("red", "green")


def test_a_tool_that_must_not_be_called_is_not(server: Server) -> None:
    assert "tool_calls" not in server.chat(tools=[LAMP], tool_choice="none")["choices"][0]["message"]


def test_logprobs_are_those_of_the_tokens(server: Server) -> None:
    found = server.chat(logprobs=True, top_logprobs=2)["choices"][0]
    tokens = found["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == found["message"]["content"]
    assert all(token["top_logprobs"][0]["token"] == token["token"] for token in tokens)


def test_a_bias_forbids_a_token(server: Server) -> None:
    def first(**changes: Any) -> str:
        body = {"model": "guide", "prompt": "To", "max_tokens": 1, "temperature": 0} | changes
        text: str = server.post("/v1/completions", **body).json()["choices"][0]["text"]
        return text

    even, odd = ({str(token): -100 for token in range(start, 1280, 2)} for start in (0, 1))
    assert first() in (first(logit_bias=even), first(logit_bias=odd))
    assert first(logit_bias=even) != first(logit_bias=odd)


def test_a_prompt_beyond_the_context_is_refused_and_not_cut(server: Server) -> None:
    reply = server.post("/v1/chat/completions", **ASK | {"messages": [{"role": "user", "content": "word " * 3000}]})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": [10**6]}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"suffix": "b"}, "suffix"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ],
)
def test_what_only_the_model_can_refuse(server: Server, changes: dict[str, Any], param: str) -> None:
    reply = server.post("/v1/completions", **{"model": "guide", "prompt": "a"} | changes)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_many_clients_at_once_get_their_own_answers(server: Server) -> None:
    alone = {seed: server.chat(seed=seed, temperature=1.5, max_tokens=10)["choices"] for seed in range(4)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: server.chat(seed=n % 4, temperature=1.5, max_tokens=10)["choices"], range(12)))
    assert found == [alone[n % 4] for n in range(12)]


def test_the_key_is_needed_and_written_nowhere(server: Server) -> None:
    assert httpx2.get(f"{server.url}/v1/models").status_code == 401
    assert httpx2.get(f"{server.url}/health").status_code == 200
    records = list((server.home / "state" / "servers").glob("*.json"))
    assert len(records) == 1
    text = records[0].read_text()
    assert KEY not in text
    assert json.loads(text)["url"] == server.url


def test_a_record_leads_other_commands_to_the_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSUPPLY_HOME", str(server.home))
    found = RunningServer.find()
    assert found is not None
    assert (found.url, found.pid, found.needs_key) == (server.url, server.process.pid, True)


def test_the_sdk_of_openai(server: Server) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["guide"]
        assert client.models.retrieve("guide").context_length == 1024
        answer = client.chat.completions.create(model="guide", messages=MESSAGES, temperature=0)
        with client.chat.completions.stream(model="guide", messages=MESSAGES, temperature=0) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        assert {"chunk", "content.delta", "content.done"} <= kinds
        assert final.choices[0].message.content == answer.choices[0].message.content
        with client.chat.completions.stream(
            model="guide",
            messages=MESSAGES,
            tools=[LAMP | {"function": LAMP["function"] | {"strict": True}}],
            tool_choice="required",
        ) as stream:
            called = stream.get_final_completion().choices[0].message.tool_calls
        assert json.loads(called[0].function.arguments)["color"] in ("red", "green")
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="gpt-6", messages=MESSAGES)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as long:
            client.chat.completions.create(model="guide", messages=[{"role": "user", "content": "word " * 3000}])
        assert long.value.code == "context_length_exceeded"


def test_sigterm_ends_it_and_its_record(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as (process, greeting):
        assert "installed models" in greeting
        process.send_signal(signal.SIGTERM)
        assert "stopping" in process.communicate(timeout=60)[1]
        assert process.returncode == 143
    assert list((tmp_path / "state" / "servers").glob("*.json")) == []


# what is refused before anything starts


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = lmsupply("serve", "--port", str(port))
    assert found.code == 1
    assert found.err.splitlines()[0] == f"error: port {port} of 127.0.0.1 is in use"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is reachable from other machines, so a key is required"),
        (["--host", "::"], "a key is required"),
        (["--host", "no such host"], "a key is required"),
        (["--api-key", "a", "--api-key-file", "b"], "can't be combined"),
        (["--api-key", "two words"], "letters, digits and punctuation"),
        (["--api-key", ""], "--api-key"),
        (["--api-key-file", "/nowhere/keys"], "cannot read /nowhere/keys"),
        (["--port", "http"], "--port must be a whole number from 0 to 65535"),
        (["--port", "70000"], "--port must be a whole number from 0 to 65535"),
        (["--keep-alive", "soon"], "not a duration: 'soon'"),
        (["--max-models", "0"], "--max-models must be a whole number"),
        (["--max-queue", "-1"], "--max-queue must be a whole number"),
        (["--cors", "localhost"], "an origin must be scheme://host"),
        (["--cors", "http://localhost:3000/"], "an origin must be scheme://host"),
        (["--allow-host", "http://ai.example.com"], "must be a host name, without a scheme"),
        (["--memory-limit", "lots"], "not a size"),
        (["--ping", "often"], "--ping must be a whole number"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], said: str) -> None:
    found = lmsupply("serve", *arguments)
    assert found.code == 2
    assert said in found.err


def test_a_folder_has_no_name_for_clients(toy: Path) -> None:
    found = lmsupply("serve", str(toy))
    assert found.code == 2
    assert "has no name that clients can use" in found.err


def test_a_model_that_is_not_installed_follows_the_rules_of_pulling() -> None:
    found = lmsupply("serve", "phi-4-mini", "--offline")
    assert found.code == 3
    assert "lmsupply pull phi-4-mini" in found.err


def test_the_file_of_keys(tmp_path: Path) -> None:
    from lmsupply_cli.cli.serving import read_keys

    file = tmp_path / "keys"
    file.write_text("# for the team\nfirst\n\n second \n")
    assert read_keys(None, str(file)) == ("first", "second")
    file.write_text("# none\n")
    assert lmsupply("serve", "--api-key-file", str(file)).code == 2


def test_a_context_beyond_that_of_a_named_model() -> None:
    found = lmsupply("serve", "guide", "--context", "8192")
    assert found.code == 2
    assert "--context 8192 is more than the maximum of guide, 1,024 tokens" in found.err


def test_the_page_of_the_server_names_every_field_and_option() -> None:
    from lmsupply_cli.server.openai.chat_body import ChatBody
    from lmsupply_cli.server.openai.completions_body import CompletionBody

    page = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
    chat, completions = page.split("## OpenAI: completions")
    options = set(re.findall(r"--[a-z-]+", lmsupply("serve", "--help").out.partition("Model:")[0]))
    assert [name for name in options if name not in page] == []
    for form, text in ((ChatBody, chat), (CompletionBody, completions)):
        fields = set(form.model_fields) | set(form.unsupported) | (form.no_effect if form is ChatBody else set())
        assert [name for name in fields if f"`{name}`" not in text] == []


def test_a_state_folder_that_cannot_be_written_is_said_and_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with serving(tmp_path, "--port", "0") as (process, note):
        assert "other commands will not find this server" in note
        assert process.stderr
        url = url_in(process.stderr.readline())
        assert httpx2.get(f"{url}/health").status_code == 200
