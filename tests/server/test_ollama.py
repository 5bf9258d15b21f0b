"""The API of Ollama, rule by rule."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support.api import client_of
from support.fake_models import TINY, FakeModels, says

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import ContextOverflow, QueueFull, UsageError, WorkerDied
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from lmsupply_cli.server.body import Part
from lmsupply_cli.server.ollama.chat import ChatBody, Message
from lmsupply_cli.server.ollama.generate import GenerateBody
from lmsupply_cli.server.ollama.models import ShowBody
from lmsupply_cli.server.ollama.options import Options
from lmsupply_cli.serving.requests import AnswerRequest, LoadedWorker

CREATED = "2023-11-14T22:13:20.900000Z"
THINKER = replace(TINY, ref="thinker", aliases=(), thinking=True)
USER = {"role": "user", "content": "hi"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@dataclass
class Memory(FakeModels):
    """Remembers what was loaded and unloaded."""

    models: tuple[Any, ...] = (TINY, THINKER)
    loads: list[tuple[str, float | None]] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)

    async def load(self, model: str, *, keep_alive_s: float | None = None) -> None:
        await super().load(model, keep_alive_s=keep_alive_s)
        self.loads.append((model, keep_alive_s))

    async def unload(self, model: str) -> bool:
        self.unloads.append(model)
        return await super().unload(model)


def end(finish: str = "stop", **changes: Any) -> Finished:
    usage = Usage(prompt_tokens=7, cached_tokens=3, completion_tokens=2)
    return Finished(finish, usage, Timings(0.0, 0.1, 0.25, 0.5), **changes)  # type: ignore[arg-type]


def scripted(*events: GenerationEvent | Exception) -> Memory:
    return Memory(script=lambda request: events)  # type: ignore[arg-type,return-value]


def chat(models: FakeModels, **changes: Any) -> Any:
    body = {"model": "tiny", "messages": [USER], "stream": False} | changes
    return client_of(models).post("/api/chat", json=body)


def generate(models: FakeModels, **changes: Any) -> Any:
    body = {"model": "tiny", "prompt": "hi", "stream": False} | changes
    return client_of(models).post("/api/generate", json=body)


def asked(models: FakeModels, **changes: Any) -> AnswerRequest:
    """What a chat asks of the model."""
    response = chat(models, **changes)
    assert response.status_code == 200, response.text
    return models.asked[-1][1]


def asked_text(models: FakeModels, **changes: Any) -> AnswerRequest:
    response = generate(models, **changes)
    assert response.status_code == 200, response.text
    return models.asked[-1][1]


def lines(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/x-ndjson")
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


# the server


def test_the_words_that_clients_look_for() -> None:
    with client_of() as client:
        found = client.get("/")
        assert (found.status_code, found.text) == (200, "Ollama is running")
        assert client.head("/").status_code == 200
        assert client.head("/").text == ""


def test_a_person_with_a_browser_is_told_what_runs() -> None:
    found = client_of().get("/", headers={"Accept": "text/html,*/*"}).text
    assert "lmsupply" in found
    assert "Ollama" not in found


def test_the_version_is_one_that_clients_can_compare() -> None:
    found = client_of().get("/api/version").json()
    assert [int(part) for part in found["version"].split(".")] >= [0, 12, 0]
    assert found["lmsupply_version"]


def test_tags_list_the_installed_models() -> None:
    (row,) = client_of().get("/api/tags").json()["models"]
    assert row == {
        "name": "tiny:latest",
        "model": "tiny:latest",
        "modified_at": "2023-11-14T22:13:20.000000Z",
        "size": 1_000_000,
        "digest": "ab" * 32,
        "details": {
            "parent_model": "",
            "format": "onnx",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "100M",
            "quantization_level": "INT4",
        },
    }


def test_a_name_with_a_tag_of_its_own_stays() -> None:
    models = FakeModels(models=(replace(TINY, ref="owner/repo:int4", aliases=(), parameters=3.8, precision=""),))
    (row,) = client_of(models).get("/api/tags").json()["models"]
    assert (row["name"], row["details"]["parameter_size"]) == ("owner/repo:int4", "3.8B")


def test_show_tells_what_a_model_can_do() -> None:
    client = client_of(Memory())
    found = client.post("/api/show", json={"model": "tiny:latest", "verbose": True}).json()
    assert found["capabilities"] == ["completion", "tools"]
    assert found["model_info"] == {
        "general.architecture": "llama",
        "general.parameter_count": 100_000_000,
        "llama.context_length": 4096,
    }
    assert found["parameters"].split() == ["num_ctx", "4096"]
    assert found["license"] == "mit"
    assert found["details"]["family"] == "llama"
    assert client.post("/api/show", json={"name": "thinker"}).json()["capabilities"][-1] == "thinking"


def test_ps_lists_the_models_in_memory() -> None:
    models = Memory()
    client = client_of(models)
    assert client.get("/api/ps").json() == {"models": []}
    models.in_memory.add("tiny")
    (row,) = client.get("/api/ps").json()["models"]
    assert (row["name"], row["size"], row["size_vram"], row["context_length"]) == ("tiny:latest", 5_000_000, 0, 4096)
    assert row["expires_at"] == "2023-11-14T22:23:20.900000Z"
    assert row["digest"] == TINY.digest


def test_ps_of_a_model_on_a_gpu_that_is_never_unloaded() -> None:
    class Pinned(FakeModels):
        def loaded(self) -> Sequence[LoadedWorker]:
            return [LoadedWorker("tiny", 7, 4096, "cuda", 1, True, None, 0, 0, 0)]

    (row,) = client_of(Pinned()).get("/api/ps").json()["models"]
    assert row["size_vram"] == row["size"] == 7
    assert row["expires_at"].startswith("2123-")


def test_ps_of_a_model_that_was_removed_meanwhile() -> None:
    models = FakeModels(models=(), in_memory={"tiny"})
    (row,) = client_of(models).get("/api/ps").json()["models"]
    assert (row["name"], row["size"]) == ("tiny:latest", 5_000_000)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("POST", "/api/push"),
        ("POST", "/api/pull"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/embed"),
        ("POST", "/api/embeddings"),
        ("HEAD", "/api/blobs/sha256:00"),
        ("POST", "/api/blobs/sha256:00"),
    ],
)
def test_what_is_not_here_says_so(method: str, path: str) -> None:
    found = client_of().request(method, path)
    assert found.status_code == 501
    if method != "HEAD":
        assert path in found.json()["error"]
        assert "not supported" in found.json()["error"]


# chat


def test_a_whole_answer() -> None:
    found = chat(scripted(TextDelta("Hel"), TextDelta("lo"), end())).json()
    total, load = found.pop("total_duration"), found.pop("load_duration")
    assert 0 < load <= total
    assert found == {
        "model": "tiny",
        "created_at": CREATED,
        "message": {"role": "assistant", "content": "Hello"},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 7,
        "prompt_eval_duration": 250_000_000,
        "eval_count": 2,
        "eval_duration": 500_000_000,
    }


def test_it_streams_by_default() -> None:
    response = client_of(FakeModels()).post("/api/chat", json={"model": "tiny", "messages": [USER]})
    *pieces, last = lines(response)
    assert [piece["message"] for piece in pieces] == [
        {"role": "assistant", "content": "Hel"},
        {"role": "assistant", "content": "lo"},
    ]
    assert [piece["done"] for piece in pieces] == [False, False]
    assert {"total_duration", "load_duration", "eval_duration"} <= last.keys()
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert all(piece["created_at"] == CREATED and piece["model"] == "tiny" for piece in (*pieces, last))
    assert not any("done_reason" in piece for piece in pieces)


def test_null_counts_as_left_out() -> None:
    response = client_of(FakeModels()).post(
        "/api/chat",
        json={"model": "tiny", "messages": [USER], "stream": None, "format": None, "options": None, "keep_alive": None},
    )
    assert len(lines(response)) == 3


@pytest.mark.parametrize(
    ("finish", "reason"), [("stop", "stop"), ("length", "length"), ("memory", "length"), ("tool_calls", "stop")]
)
def test_why_it_ended(finish: str, reason: str) -> None:
    models = scripted(TextDelta("a"), end(finish))
    assert chat(models).json()["done_reason"] == reason
    assert lines(chat(models, stream=True))[-1]["done_reason"] == reason


def test_an_error_in_the_middle_is_a_line() -> None:
    *pieces, last = lines(chat(scripted(TextDelta("a"), WorkerDied("it crashed", hint="ask again")), stream=True))
    assert [piece["message"]["content"] for piece in pieces] == ["a"]
    assert last == {"error": "it crashed (ask again)"}


def test_an_answer_without_an_end_is_an_error() -> None:
    models = scripted(TextDelta("a"))
    assert "error" in lines(chat(models, stream=True))[-1]
    assert chat(models).status_code == 502


def test_an_answer_that_the_server_stopped_is_an_error() -> None:
    models = scripted(TextDelta("a"), end("cancelled"))
    assert lines(chat(models, stream=True))[-1] == {"error": "the server is stopping"}
    assert chat(models).status_code == 503


def test_errors_before_the_start_have_a_status() -> None:
    for error, status in (
        (ContextOverflow("the prompt is too long"), 400),
        (QueueFull("too many wait"), 429),
        (WorkerDied("it crashed"), 502),
    ):
        response = chat(FakeModels(refuses=error), stream=True)
        assert response.status_code == status
        assert error.message in response.json()["error"]
    assert chat(FakeModels(refuses=QueueFull("too many wait"))).headers["retry-after"]


def test_an_unknown_model() -> None:
    response = chat(FakeModels(), model="gpt-4")
    assert response.status_code == 404
    assert "gpt-4" in response.json()["error"]


@pytest.mark.parametrize("name", ["tiny", "tiny:latest", "fast:latest"])
def test_the_tag_latest_stands_for_no_tag_and_is_told_back(name: str) -> None:
    models = FakeModels()
    assert chat(models, model=name).json()["model"] == name
    assert models.asked[0][0] == name.removesuffix(":latest")


def test_messages_of_every_role() -> None:
    request = asked(
        FakeModels(),
        messages=[
            {"role": "system", "content": "Be brief."},
            USER,
            {"role": "assistant", "content": "Yes?", "thinking": "hm"},
            {"role": "user", "content": "bye", "images": []},
        ],
    )
    assert request.messages == (
        ChatMessage.system("Be brief."),
        ChatMessage.user("hi"),
        ChatMessage.assistant("Yes?"),
        ChatMessage.user("bye"),
    )
    assert request.answer_prefix == ""


def test_a_last_message_of_the_assistant_is_continued() -> None:
    request = asked(FakeModels(), messages=[USER, {"role": "assistant", "content": "Once upon"}])
    assert (request.messages, request.answer_prefix) == ((ChatMessage.user("hi"),), "Once upon")


# options


@pytest.mark.parametrize(
    ("option", "value", "ours"),
    [
        ("temperature", 0.5, {"temperature": 0.5}),
        ("temperature", 0, {"temperature": 0.0}),
        ("top_p", 0.5, {"top_p": 0.5}),
        ("top_k", 7, {"top_k": 7}),
        ("top_k", -1, {"top_k": 0}),
        ("min_p", 0.1, {"min_p": 0.1}),
        ("repeat_penalty", 1.5, {"repetition_penalty": 1.5}),
        ("presence_penalty", 1, {"presence_penalty": 1.0}),
        ("frequency_penalty", -0.5, {"frequency_penalty": -0.5}),
        ("seed", 3, {"seed": 3}),
        ("seed", -1, {}),
        ("stop", ["a", "b"], {"stop": ("a", "b")}),
        ("stop", "a", {"stop": ("a",)}),
        ("num_predict", 5, {"max_tokens": 5}),
        ("num_predict", -1, {}),
        ("num_predict", -2, {}),
        ("mirostat", 0, {}),
        ("tfs_z", 1.0, {}),
        ("typical_p", 1.0, {}),
        ("repeat_last_n", -1, {}),
        ("penalize_newline", True, {}),
        ("num_keep", 4, {}),
        ("num_gpu", 99, {}),
        ("num_thread", 8, {}),
        ("use_mmap", False, {}),
        ("num_batch", 512, {}),
        ("vocab_only", False, {}),
    ],
)
def test_options(option: str, value: Any, ours: dict[str, Any]) -> None:
    request = asked(FakeModels(), options={option: value})
    options = dict(request.options)
    most, _ = options.pop("max_tokens"), options.pop("logprobs")
    assert most == ours.get("max_tokens", 2**31 - 1)
    assert options == {name: number for name, number in ours.items() if name != "max_tokens"}


def test_num_ctx_within_the_loaded_context() -> None:
    models = Memory()
    assert asked(models, options={"num_ctx": 4096}, keep_alive=5).messages
    assert models.loads == [("tiny", 5.0)]


def test_num_ctx_beyond_it_is_refused_with_the_limit() -> None:
    models = Memory()
    response = chat(models, options={"num_ctx": 8192})
    assert response.status_code == 400
    assert "options.num_ctx" in response.json()["error"]
    assert "4096" in response.json()["error"]
    assert not models.asked
    assert not models.loads


def test_num_ctx_beyond_what_the_memory_allowed_is_refused_once_that_is_known() -> None:
    class Small(Memory):
        async def load(self, model: str, *, keep_alive_s: float | None = None) -> None:
            await super().load(model, keep_alive_s=keep_alive_s)
            self.models = (replace(TINY, context_length=1024),)

    models = Small()
    response = chat(models, options={"num_ctx": 4096})
    assert response.status_code == 400
    assert "1024" in response.json()["error"]
    assert not models.asked


def test_errors_of_the_library_name_the_option() -> None:
    error = UsageError("`repetition_penalty` is wrong").of("repetition_penalty")
    response = chat(FakeModels(refuses=error))
    assert response.status_code == 400
    assert "options.repeat_penalty" in response.json()["error"]


# format, think, keep_alive, logprobs


def test_format_json_is_an_object() -> None:
    assert asked(FakeModels(), format="json").guidance == Guidance.json_schema({"type": "object"})
    assert asked(FakeModels(), format="").guidance is None


def test_format_as_a_schema() -> None:
    assert asked(FakeModels(), format=SCHEMA).guidance == Guidance.json_schema(SCHEMA)
    assert asked_text(FakeModels(), format=SCHEMA).guidance == Guidance.json_schema(SCHEMA)


@pytest.mark.parametrize(
    ("think", "enable", "effort"),
    [(True, True, None), (False, False, None), ("low", True, "low"), ("high", True, "high"), ("max", True, "high")],
)
def test_think(think: Any, enable: bool, effort: str | None) -> None:
    request = asked(Memory(), model="thinker", think=think)
    assert (request.enable_thinking, request.reasoning_effort) == (enable, effort)


def test_a_model_that_does_not_think() -> None:
    models = Memory()
    assert asked(models, think=False).enable_thinking is None
    response = chat(models, think=True)
    assert response.status_code == 400
    assert "think" in response.json()["error"]


def test_thinking_has_its_own_field() -> None:
    models = scripted(ReasoningDelta("Let me "), ReasoningDelta("see."), TextDelta("Yes."), end())
    assert chat(models).json()["message"] == {"role": "assistant", "content": "Yes.", "thinking": "Let me see."}
    pieces = [piece["message"] for piece in lines(chat(models, stream=True))]
    assert [piece.get("thinking") for piece in pieces] == ["Let me ", "see.", None, None]
    assert [piece["content"] for piece in pieces] == ["", "", "Yes.", ""]
    assert generate(models).json()["thinking"] == "Let me see."
    assert lines(generate(models, stream=True))[0]["thinking"] == "Let me "


def test_text_that_was_thinking_all_along() -> None:
    models = scripted(TextDelta("Hm."), TextWasReasoning(), TextDelta("Yes."), end())
    assert chat(models).json()["message"] == {"role": "assistant", "content": "Yes.", "thinking": "Hm."}
    pieces = [piece["message"] for piece in lines(chat(models, stream=True))]
    assert [(piece["content"], piece.get("thinking")) for piece in pieces] == [
        ("Hm.", None), ("", "Hm."), ("Yes.", None), ("", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("90s", 90.0),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("30", 30.0),
        (30, 30.0),
        (0.5, 0.5),
        ("0", 0.0),
        (0, 0.0),
        ("0s", 0.0),
        (-1, math.inf),
        ("-1", math.inf),
        ("-1s", math.inf),
        ("-10m", math.inf),
    ],
)
def test_keep_alive(given: Any, seconds: float) -> None:
    models = FakeModels()
    asked(models, keep_alive=given)
    assert models.asked[0][2] == pytest.approx(seconds)


def test_keep_alive_of_the_server() -> None:
    models = FakeModels()
    asked(models)
    assert models.asked[0][2] is None


def test_logprobs() -> None:
    token = TokenLogprob("a", 5, -0.5, (TokenLogprob("a", 5, -0.5), TokenLogprob("b", 6, -1.5)))
    models = scripted(token, TextDelta("a"), end())
    expected = [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [
                {"token": "a", "logprob": -0.5, "bytes": [97]},
                {"token": "b", "logprob": -1.5, "bytes": [98]},
            ],
        }
    ]
    found = chat(models, logprobs=True, top_logprobs=2).json()["logprobs"]
    assert found == expected
    assert models.asked[0][1].options["top_logprobs"] == 2
    streamed = lines(chat(models, logprobs=True, stream=True))
    assert [row["token"] for row in streamed[0]["logprobs"]] == ["a"]
    assert "logprobs" not in streamed[1]


# tools


def test_tools_are_offered() -> None:
    request = asked(FakeModels(), tools=[WEATHER])
    assert [tool.name for tool in request.tools] == ["weather"]
    assert request.tool_choice == "auto"


def test_calls_have_arguments_that_are_an_object() -> None:
    call = ToolCall("call_9", "weather", '{"city": "Oslo"}')
    more = ToolCall("call_8", "weather", '{"city": "Rome"}')
    models = scripted(ToolCallDelta(0, "call_9", "weather"), call, more, end("tool_calls"))
    found = chat(models, tools=[WEATHER]).json()
    assert found["message"]["tool_calls"] == [
        {"id": "call_9", "function": {"index": 0, "name": "weather", "arguments": {"city": "Oslo"}}},
        {"id": "call_8", "function": {"index": 1, "name": "weather", "arguments": {"city": "Rome"}}},
    ]
    assert (found["message"]["content"], found["done_reason"]) == ("", "stop")
    first, second, last = lines(chat(models, tools=[WEATHER], stream=True))
    assert first["message"]["tool_calls"] + second["message"]["tool_calls"] == found["message"]["tool_calls"]
    assert [piece["done"] for piece in (first, second)] == [False, False]
    assert "tool_calls" not in last["message"]


@pytest.mark.parametrize("keys", [{}, {"tool_name": "weather"}, {"tool_call_id": "c1"}])
def test_results_find_their_call(keys: dict[str, str]) -> None:
    call = CALL | ({"id": "c1"} if "tool_call_id" in keys else {})
    request = asked(
        FakeModels(),
        tools=[WEATHER],
        messages=[
            USER,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "rain", **keys},
        ],
    )
    _, calling, result = request.messages
    assert calling.tool_calls[0].values == {"city": "Oslo"}
    assert result == ChatMessage.tool("rain", calling.tool_calls[0].id)


def test_results_of_several_calls() -> None:
    other = {"type": "function", "function": {"index": 1, "name": "time", "arguments": {}}}
    request = asked(
        FakeModels(),
        messages=[
            USER,
            {"role": "assistant", "tool_calls": [CALL, other, CALL]},
            {"role": "tool", "content": "noon", "tool_name": "time"},
            {"role": "tool", "content": "rain"},
            {"role": "tool", "content": "snow"},
        ],
    )
    first, second, third = [call.id for call in request.messages[1].tool_calls]
    assert len({first, second, third}) == 3
    assert [m.tool_call_id for m in request.messages[2:]] == [second, first, third]


# load and unload


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_an_empty_request_loads(path: str) -> None:
    models = Memory()
    found = client_of(models).post(path, json={"model": "tiny", "keep_alive": "1h"}).json()
    assert models.loads == [("tiny", 3600.0)]
    assert not models.asked
    assert (found["done"], found["done_reason"], found["created_at"]) == (True, "load", CREATED)
    assert found.get("response", found.get("message", {}).get("content")) == ""


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_an_empty_request_with_keep_alive_0_unloads(path: str) -> None:
    models = Memory(in_memory={"tiny"})
    found = client_of(models).post(path, json={"model": "tiny:latest", "keep_alive": 0}).json()
    assert (models.unloads, models.loads, models.in_memory) == (["tiny"], [], set())
    assert (found["done"], found["done_reason"]) == (True, "unload")


def test_loading_checks_the_context_too() -> None:
    models = Memory()
    body = {"model": "tiny", "options": {"num_ctx": 5000}}
    assert client_of(models).post("/api/generate", json=body).status_code == 400
    assert client_of(models).post("/api/generate", json=body | {"options": {"num_ctx": 50}}).status_code == 200


# generate


def test_generate_is_a_chat_of_one_message() -> None:
    request = asked_text(FakeModels(), system="Be brief.")
    assert request.messages == (ChatMessage.system("Be brief."), ChatMessage.user("hi"))
    assert request.text is None


def test_generate_streams() -> None:
    *pieces, last = lines(generate(FakeModels(), stream=True))
    assert [piece["response"] for piece in pieces] == ["Hel", "lo"]
    assert (last["response"], last["done"], last["done_reason"], last["eval_count"]) == ("", True, "stop", 2)
    assert "message" not in last
    assert last["context"]
    assert not any("context" in piece for piece in pieces)


def test_raw_is_the_prompt_as_it_stands() -> None:
    request = asked_text(FakeModels(), raw=True, prompt="<s>hi")
    assert (request.text, request.suffix, request.messages) == ("<s>hi", None, ())
    assert "context" not in generate(FakeModels(), raw=True).json()


def test_suffix_is_what_stands_behind_the_answer() -> None:
    request = asked_text(FakeModels(), suffix="    return c", prompt="def add(a, b):\n")
    assert (request.text, request.suffix) == ("def add(a, b):\n", "    return c")


def test_a_context_continues() -> None:
    context = generate(Memory(script=says("Hel", "lo")), system="Be brief.").json()["context"]
    assert all(isinstance(number, int) and 0 <= number < 2**24 for number in context)
    request = asked_text(FakeModels(), prompt="and now? é✓", context=context)
    assert request.messages == (
        ChatMessage.system("Be brief."),
        ChatMessage.user("hi"),
        ChatMessage.assistant("Hello"),
        ChatMessage.user("and now? é✓"),
    )
    again = lines(generate(FakeModels(), prompt="and now? é✓", context=context, stream=True, system="In verse."))
    request = asked_text(FakeModels(), prompt="x", context=again[-1]["context"])
    assert [m.content for m in request.messages] == ["In verse.", "hi", "Hello", "and now? é✓", "Hello", "x"]


def test_errors_of_a_prompt_name_it() -> None:
    response = generate(FakeModels(refuses=ContextOverflow("9 tokens are too many")))
    assert response.json()["error"].startswith("prompt is too long: 9 tokens")


# the documentation


@pytest.mark.parametrize("form", [ChatBody, GenerateBody, ShowBody, Options, Message], ids=lambda form: form.__name__)
def test_the_page_says_what_becomes_of_every_field(form: type[Part]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
    text = page.split("\n## Ollama\n", 1)[1].split("\n## ", 1)[0]
    names = form.model_fields.keys() | form.no_effect | form.unsupported.keys()
    assert sorted(name for name in names - {"role"} if f"`{name}`" not in text) == []
