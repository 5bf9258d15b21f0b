"""POST /v1/responses on scripted answers: what a model is asked, and what the client gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.api import client_of, events_of, fixture
from support.fake_models import FakeModels, says

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.errors import ContextOverflow, ModelNotFound, QueueFull, UsageError, WorkerDied
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from lmsupply_cli.serving.requests import AnswerRequest

ADD = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "strict": True,
}
USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=6, reasoning_tokens=2)
CALLS: tuple[GenerationEvent, ...] = (
    ReasoningDelta("Add "),
    ReasoningDelta("them."),
    TextDelta("I add."),
    ToolCallDelta(0, "call_1", "add", ""),
    ToolCallDelta(0, "call_1", "add", '{"a":'),
    ToolCallDelta(0, "call_1", "add", " 1}"),
    ToolCall("call_1", "add", '{"a": 1}'),
    ToolCallDelta(1, "call_2", "add", '{"a": 2}'),
    ToolCall("call_2", "add", '{"a": 2}'),
    Finished("tool_calls", USAGE),
)


def answering(*events: GenerationEvent | Exception) -> FakeModels:
    return FakeModels(script=lambda request: events)  # type: ignore[arg-type,return-value]


def post(models: FakeModels, **body: Any) -> dict[str, Any]:
    reply = client_of(models).post("/v1/responses", json={"model": "tiny", "input": "hi"} | body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def stream(models: FakeModels, **body: Any) -> list[dict[str, Any]]:
    reply = client_of(models).post("/v1/responses", json={"model": "tiny", "input": "hi", "stream": True} | body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events_of(reply.text)
    assert [name for name, _ in found] == [data["type"] for _, data in found]
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    return [data for _, data in found]


def asked(**body: Any) -> AnswerRequest:
    """What a model is asked."""
    models = FakeModels()
    post(models, **body)
    return models.asked[0][1]


def without_ids(value: Any) -> Any:
    """Ids differ from response to response."""
    if isinstance(value, dict):
        return {key: without_ids(one) for key, one in value.items() if key not in ("id", "item_id")}
    return [without_ids(one) for one in value] if isinstance(value, list) else value


def test_a_whole_response() -> None:
    found = post(FakeModels(), instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=20)
    assert found["id"].startswith("resp_")
    assert (found["object"], found["status"], found["created_at"]) == ("response", "completed", 1_700_000_000)
    assert found["output"][0]["content"] == [
        {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    ]
    assert found["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 9,
    }
    assert (found["store"], found["previous_response_id"], found["error"]) == (False, None, None)
    assert (found["instructions"], found["metadata"], found["max_output_tokens"]) == ("Be brief.", {"a": "b"}, 20)


def test_the_order_of_events() -> None:
    found = stream(answering(*CALLS), tools=[ADD])
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    last = found[-1]["response"]
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert last["output"] == done
    assert [item["type"] for item in done] == ["reasoning", "message", "function_call", "function_call"]
    assert {item["status"] for item in done} == {"completed"}
    assert len({event["response"]["id"] for event in found if "response" in event}) == 1
    added = [event["item"] for event in found if event["type"] == "response.output_item.added"]
    assert [item["id"] for item in added] == [item["id"] for item in done]
    assert [event["output_index"] for event in found if "item" in event] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert added[1]["content"] == []
    assert added[2]["arguments"] == ""
    assert last["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


@pytest.mark.parametrize(
    "events",
    [CALLS, says("a", "b")(AnswerRequest()), says("a", finish="length")(AnswerRequest()), says()(AnswerRequest())],
)
def test_a_stream_is_the_whole_in_pieces(events: Sequence[GenerationEvent]) -> None:
    whole = post(answering(*events), tools=[ADD])
    streamed = stream(answering(*events), tools=[ADD])[-1]
    assert streamed["type"] == f"response.{whole['status']}"
    assert without_ids(streamed["response"]) == without_ids(whole)


def test_an_answer_that_was_cut_is_incomplete() -> None:
    found = post(FakeModels(script=says("a", finish="length")))
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert found["output"][0]["status"] == "incomplete"


def test_half_a_call_is_incomplete() -> None:
    events = (ToolCallDelta(0, "call_1", "add", '{"a'), Finished("length", USAGE))
    found = stream(answering(*events), tools=[ADD])[-1]["response"]
    assert found["status"] == "incomplete"
    assert [(item["arguments"], item["status"]) for item in found["output"]] == [('{"a', "incomplete")]


def test_there_is_always_a_message() -> None:
    assert post(FakeModels(script=says()))["output"][0]["content"][0]["text"] == ""


@pytest.mark.parametrize(
    ("reasoning", "item"),
    [
        ({}, {"summary": [], "content": [{"type": "reasoning_text", "text": "Add them."}]}),
        ({"summary": "auto"}, {"summary": [{"type": "summary_text", "text": "Add them."}]}),
    ],
)
def test_thoughts_are_content_or_the_summary_that_was_asked_for(reasoning: Any, item: Any) -> None:
    found = post(answering(*CALLS), reasoning=reasoning)["output"][0]
    assert without_ids(found) == {"type": "reasoning", "status": "completed"} | item
    names = {event["type"] for event in stream(answering(*CALLS), reasoning=reasoning)}
    assert ("response.reasoning_summary_text.delta" in names) is bool(reasoning)
    assert ("response.reasoning_text.delta" in names) is not bool(reasoning)


def test_thoughts_come_back() -> None:
    first = post(answering(*CALLS), include=["reasoning.encrypted_content"], tools=[ADD])["output"]
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": first[0]["encrypted_content"]}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "1"}
    for thought in (first[0], sealed, first[0] | {"content": None, "id": "rs_1"}):
        found = asked(input=[{"role": "user", "content": "hi"}, thought, *first[1:], result], tools=[ADD])
        assert found.messages[1].reasoning == "Add them."
    foreign = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAABo"}
    found = asked(input=[{"role": "user", "content": "hi"}, foreign, *first[1:], result], tools=[ADD])
    assert found.messages[1].reasoning == ""


def test_text_that_was_reasoning() -> None:
    events = (TextDelta("so"), TextWasReasoning(), TextDelta("yes"), Finished("stop", USAGE))
    whole = post(answering(*events))["output"]
    assert [item["content"][0]["text"] for item in whole] == ["so", "yes"]
    assert [item["type"] for item in whole] == ["reasoning", "message"]
    streamed = stream(answering(*events))[-1]["response"]["output"]
    assert [(item["type"], item["content"][0]["text"]) for item in streamed] == [("message", "so"), ("message", "yes")]


def test_log_probabilities_of_the_text() -> None:
    top = TokenLogprob("Hi", 1, -0.5)
    events = (
        TokenLogprob("think", 3, -1.0),
        ReasoningDelta("think"),
        TokenLogprob("Hi", 1, -0.5, (top,)),
        TextDelta("Hi"),
        Finished("stop", USAGE),
    )
    wanted = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    row = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5}
    assert post(answering(*events), **wanted)["output"][1]["content"][0]["logprobs"] == [row | {"top_logprobs": [row]}]
    deltas = [
        event["logprobs"] for event in stream(answering(*events), **wanted) if "output_text.delta" in event["type"]
    ]
    assert deltas == [[row | {"top_logprobs": [row]}]]
    options = asked(**wanted).options
    assert (options["logprobs"], options["top_logprobs"]) == (True, 1)


def test_an_error_after_the_start_ends_the_stream() -> None:
    models = answering(TextDelta("a"), WorkerDied("the model's process ended"))
    found = stream(models)
    assert found[-1]["type"] == "response.failed"
    assert found[-1]["response"]["status"] == "failed"
    assert found[-1]["response"]["error"] == {"code": "server_error", "message": "the model's process ended"}
    assert models.answers[0].cancelled
    assert stream(answering(TextDelta("a")))[-1]["response"]["error"]["code"] == "server_error"


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (ContextOverflow("too long"), 400, "context_length_exceeded", "input"),
        (QueueFull("full"), 429, "queue_full", None),
        (ModelNotFound("no such model"), 404, "model_not_found", "model"),
        (UsageError("bad"), 400, "invalid_value", "tools"),
    ],
)
def test_errors_before_the_start(error: Any, status: int, code: str, param: str | None) -> None:
    for streamed in (False, True):
        reply = client_of(FakeModels(refuses=error)).post(
            "/v1/responses", json={"model": "tiny", "input": "hi", "tools": [ADD], "stream": streamed}
        )
        assert reply.status_code == status
        found = reply.json()["error"]
        assert found["code"] == code
        assert param is None or found["param"] == param


def test_a_crash_of_the_model_is_502() -> None:
    models = answering(TextDelta("a"), WorkerDied("the model's process ended"))
    reply = client_of(models).post("/v1/responses", json={"model": "tiny", "input": "hi"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "worker_died")


def test_what_a_model_is_asked() -> None:
    found = asked(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Use tabs."},
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"role": "user", "content": "c"},
            {
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "d", "annotations": []},
                    {"type": "refusal", "refusal": "e"},
                ],
            },
            {"type": "message", "role": "user", "content": "f", "status": "completed"},
        ],
        temperature=0.5,
        top_p=0.25,
        max_output_tokens=9,
        reasoning={"effort": "minimal"},
    )
    assert found.messages == (
        ChatMessage.system("Be brief.\n\nUse tabs."),
        ChatMessage.user("a\nb\n\nc"),
        ChatMessage.assistant("de"),
        ChatMessage.user("f"),
    )
    assert found.options == {"max_tokens": 9, "temperature": 0.5, "top_p": 0.25}
    assert (found.enable_thinking, found.reasoning_effort) == (None, "low")
    assert asked(reasoning={"effort": "none"}).enable_thinking is False
    assert asked().options["max_tokens"] > 1_000_000


def test_forms_of_the_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    wanted = {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": schema}}
    guidance = asked(text=wanted).guidance
    assert guidance is not None
    assert '"a"' in guidance.text
    assert asked(text={"format": {"type": "json_object"}}).guidance is not None
    assert asked(text={"format": {"type": "text"}, "verbosity": "medium"}).guidance is None
    assert asked(text=None).guidance is None
    assert post(FakeModels(), text=wanted)["text"] == wanted | {
        "format": {"type": "json_schema", "name": "x", "schema": schema}
    }


@pytest.mark.parametrize(
    ("choice", "offered", "wanted"),
    [
        (None, ["add", "sub"], "auto"),
        ("auto", ["add", "sub"], "auto"),
        ("none", ["add", "sub"], "none"),
        ("required", ["add", "sub"], "required"),
        ({"type": "function", "name": "sub"}, ["add", "sub"], {"type": "function", "function": {"name": "sub"}}),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "sub"}]}, ["sub"], "auto"),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "add"}]},
            ["add"],
            "required",
        ),
    ],
)
def test_choices_of_tools(choice: Any, offered: list[str], wanted: Any) -> None:
    tools = [ADD, {"type": "function", "name": "sub", "strict": None}]
    found = asked(tools=tools, tool_choice=choice, parallel_tool_calls=False)
    assert [tool.name for tool in found.tools] == offered
    assert found.tool_choice == wanted
    assert found.parallel_tool_calls is False
    assert {tool.name: tool.strict for tool in found.tools} == {name: name == "add" for name in offered}
    assert post(FakeModels(), tools=tools, tool_choice=choice)["tool_choice"] == (choice or "auto")


def test_tokens_are_counted() -> None:
    reply = client_of().post("/v1/responses/input_tokens", json={"model": "tiny", "input": "hi", "tools": [ADD]})
    assert reply.json() == {"object": "response.input_tokens", "input_tokens": 7}


def test_responses_are_not_kept() -> None:
    found = client_of().get("/v1/responses/resp_1")
    assert (found.status_code, found.json()["error"]["code"]) == (404, "response_not_found")
    assert client_of().delete("/v1/responses/resp_1").status_code == 404


def test_the_first_request_of_codex() -> None:
    models = answering(
        ReasoningDelta("Search."),
        ToolCallDelta(0, "call_1", "mcp__docs__search", '{"query": "x"}'),
        ToolCall("call_1", "mcp__docs__search", '{"query": "x"}'),
        Finished("tool_calls", USAGE),
    )
    reply = client_of(models).post("/v1/responses", json=fixture("codex_first"))
    assert reply.status_code == 200, reply.text
    last = events_of(reply.text)[-1][1]["response"]
    assert [item["type"] for item in last["output"]] == ["reasoning", "function_call"]
    assert last["output"][0]["summary"] == [{"type": "summary_text", "text": "Search."}]
    assert last["output"][0]["encrypted_content"].startswith("lmsupply:")
    assert (last["output"][1]["namespace"], last["output"][1]["name"]) == ("mcp__docs", "search")
    assert [tool["type"] for tool in last["tools"]] == ["function", "function", "namespace"]
    found = models.asked[0][1]
    assert [tool.name for tool in found.tools] == ["exec_command", "update_plan", "mcp__docs__search"]
    assert not any(tool.strict for tool in found.tools)
    assert [message.role for message in found.messages] == ["system", "user"]
    assert found.messages[0].content.startswith("You are a coding agent")
    assert found.messages[1].content.endswith("How many files are here?")
    assert found.reasoning_effort == "medium"


def test_a_later_request_of_codex() -> None:
    models = FakeModels()
    reply = client_of(models).post("/v1/responses", json=fixture("codex_next"))
    assert reply.status_code == 200, reply.text
    found = models.asked[0][1].messages
    assert [message.role for message in found] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "tool",
        "user",
    ]
    assert (found[2].content, found[2].reasoning) == ("I list the files.", "I should list the files.")
    assert [(call.id, call.name) for call in found[2].tool_calls] == [
        ("call_1", "exec_command"),
        ("call_2", "mcp__docs__search"),
    ]
    assert found[4] == ChatMessage.tool("Files are listed by ls.\nSee ls(1).", "call_2")
    assert found[5].tool_calls[0].values == {"input": "*** Begin Patch\n*** End Patch"}


def test_the_probe_of_codex() -> None:
    models = FakeModels(script=says("H", finish="length"))
    reply = client_of(models).post("/v1/responses", json=fixture("codex_probe"))
    assert (reply.status_code, reply.json()["status"]) == (200, "incomplete")
    assert models.asked[0][1].messages == (ChatMessage.user(""),)
    assert client_of(models).post("/v1/responses", json=fixture("codex_probe") | {"input": ""}).status_code == 200


TEXT = {"type": "input_text", "text": "x"}
USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": {"role": "user"}}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [USER | {"name": "x"}]}, "input[0].name"),
        ({"input": [USER, {"role": "user", "content": [{"type": "input_text"}]}]}, "input[1].content[0].text"),
        (
            {"input": [{"role": "user", "content": [TEXT, {"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[1].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"role": "user", "content": [{"type": "video"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].type"),
        ({"input": [{"type": "computer_call_output"}]}, "input[0].type"),
        ({"input": [{"type": "shell_call"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "[]"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call", "call_id": "", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [USER, {"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[1].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}]},
            "input[0].output[0].type",
        ),
        ({"instructions": ["x"]}, "instructions"),
        ({"stream": "yes"}, "stream"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"include": "x"}, "include"),
        ({"include": ["x"]}, "include[0]"),
        ({"metadata": "x"}, "metadata"),
        ({"truncation": "auto"}, "truncation"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"seed": 5}, "seed"),
        ({"text": "x"}, "text"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": "strange"}}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {"if": {}}}}}, "text.format.schema"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "yes"}}, "reasoning.summary"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"reasoning": "high"}, "reasoning"),
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {"type": "string"}}]}, "tools[0]"),
        ({"tools": [ADD, ADD]}, "tools[1]"),
        ({"tools": [{"type": "mcp", "server_label": "x", "server_url": "http://x"}]}, "tools[0].type"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].type"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
        ({"tools": [{"type": "strange"}]}, "tools[0].type"),
        ({"tools": [ADD], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "sub"}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {
                "tools": [ADD],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "sub"}],
                },
            },
            "tool_choice",
        ),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], param: str) -> None:
    models = FakeModels()
    reply = client_of(models).post("/v1/responses", json={"model": "tiny", "input": "hi"} | body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert error["message"]
    assert models.asked == []


def test_fields_without_effect() -> None:
    none = {
        "store": True, "user": "u", "service_tier": "flex", "prompt_cache_key": "k", "prompt_cache_retention": "24h",
        "safety_identifier": "s", "client_metadata": {"a": "b"}, "stream_options": {"include_obfuscation": False},
        "max_tool_calls": 3, "previous_response_id": None, "background": False, "truncation": "disabled",
        "context_management": [], "include": ["web_search_call.action.sources"], "conversation": None,
    }  # fmt: skip
    assert asked(**none) == asked()
