"""POST /v1/messages on scripted answers: what a model is asked, and what the client gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.api import client_of, events_of, fixture
from support.fake_models import FakeModels, says

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.errors import ContextOverflow, DoesNotFit, QueueFull, UsageError, WorkerDied
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from lmsupply_cli.serving.requests import AnswerRequest

USER = {"role": "user", "content": "hi"}
ADD = {
    "name": "add",
    "description": "Adds.",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=6, reasoning_tokens=2)
THINK = {"type": "enabled", "budget_tokens": 1024}
CALLS: tuple[GenerationEvent, ...] = (
    ReasoningDelta("Add "),
    ReasoningDelta("them."),
    TextDelta("I "),
    TextDelta("add."),
    ToolCallDelta(0, "call_1", "add", ""),
    ToolCallDelta(0, "call_1", "add", '{"a":'),
    ToolCallDelta(0, "call_1", "add", " 1}"),
    ToolCall("call_1", "add", '{"a": 1}'),
    ToolCall("call_2", "add", '{"a": 2}'),
    Finished("tool_calls", USAGE),
)


def answering(*events: GenerationEvent | Exception) -> FakeModels:
    return FakeModels(script=lambda request: events)  # type: ignore[arg-type,return-value]


def post(models: FakeModels, **body: Any) -> dict[str, Any]:
    reply = client_of(models).post(
        "/v1/messages?beta=true",
        json={"model": "tiny", "max_tokens": 20, "messages": [USER]} | body,
        headers={"anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "x-api-key": "k"},
    )
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def stream(models: FakeModels, **body: Any) -> list[dict[str, Any]]:
    body = {"model": "tiny", "max_tokens": 20, "messages": [USER], "stream": True} | body
    reply = client_of(models).post("/v1/messages", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events_of(reply.text)
    assert [name for name, _ in found] == [data["type"] for _, data in found]
    return [data for _, data in found]


def asked(**body: Any) -> AnswerRequest:
    """What a model is asked."""
    models = FakeModels()
    post(models, **body)
    return models.asked[0][1]


def test_a_whole_message() -> None:
    found = post(FakeModels())
    assert found.pop("id").startswith("msg_")
    assert found == {
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3,
            "output_tokens": 2,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }


def test_a_whole_message_with_thoughts_and_calls() -> None:
    found = post(answering(*CALLS), tools=[ADD], thinking=THINK)
    assert found["content"] == [
        {"type": "thinking", "thinking": "Add them.", "signature": "lmsupply"},
        {"type": "text", "text": "I add."},
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_2", "name": "add", "input": {"a": 2}},
    ]
    assert found["stop_reason"] == "tool_use"


def test_the_order_of_events() -> None:
    found = stream(answering(*CALLS), tools=[ADD], thinking=THINK)
    shown = [
        (event["type"], event.get("index"), (event.get("delta") or event.get("content_block") or {}).get("type"))
        for event in found
    ]
    assert shown == [
        ("message_start", None, None),
        ("ping", None, None),
        ("content_block_start", 0, "thinking"),
        ("content_block_delta", 0, "thinking_delta"),
        ("content_block_delta", 0, "thinking_delta"),
        ("content_block_delta", 0, "signature_delta"),
        ("content_block_stop", 0, None),
        ("content_block_start", 1, "text"),
        ("content_block_delta", 1, "text_delta"),
        ("content_block_delta", 1, "text_delta"),
        ("content_block_stop", 1, None),
        ("content_block_start", 2, "tool_use"),
        ("content_block_delta", 2, "input_json_delta"),
        ("content_block_delta", 2, "input_json_delta"),
        ("content_block_stop", 2, None),
        ("content_block_start", 3, "tool_use"),
        ("content_block_delta", 3, "input_json_delta"),
        ("content_block_stop", 3, None),
        ("message_delta", None, None),
        ("message_stop", None, None),
    ]
    start, end = found[0]["message"], found[-2]
    assert (start["content"], start["stop_reason"], start["usage"]["input_tokens"]) == ([], None, 7)
    assert found[11]["content_block"] == {"type": "tool_use", "id": "call_1", "name": "add", "input": {}}
    assert end["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert end["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 6,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_a_text_block_ends_before_thoughts_begin() -> None:
    events = (TextDelta("a"), ReasoningDelta("b"), TextDelta("c"), Finished("stop", USAGE))
    found = stream(answering(*events), thinking=THINK)
    kinds = [event["content_block"]["type"] for event in found if event["type"] == "content_block_start"]
    assert kinds == ["text", "thinking", "text"]
    ends = [event["type"] for event in found if event["type"] in ("content_block_start", "content_block_stop")]
    assert ends == ["content_block_start", "content_block_stop"] * 3


@pytest.mark.parametrize(
    ("thinking", "enabled", "blocks"),
    [
        (None, False, []),
        ({"type": "disabled"}, False, []),
        ({"type": "adaptive"}, None, ["Add them."]),
        (THINK, True, ["Add them."]),
        (THINK | {"display": "omitted"}, True, [""]),
    ],
)
def test_thinking(thinking: Any, enabled: bool | None, blocks: list[str]) -> None:
    assert asked(thinking=thinking).enable_thinking is enabled
    found = post(answering(*CALLS), thinking=thinking)["content"]
    assert [block["thinking"] for block in found if block["type"] == "thinking"] == blocks
    events = stream(answering(*CALLS), thinking=thinking)
    started = [event for event in events if event.get("content_block", {}).get("type") == "thinking"]
    thoughts = "".join(event["delta"].get("thinking", "") for event in events if event["type"] == "content_block_delta")
    assert (len(started), thoughts) == (len(blocks), "".join(blocks))


@pytest.mark.parametrize(
    ("end", "reason", "sequence"),
    [
        (Finished("stop", USAGE), "end_turn", None),
        (Finished("stop", USAGE, stop_sequence="END"), "stop_sequence", "END"),
        (Finished("length", USAGE, cut_by="max_tokens"), "max_tokens", None),
        (Finished("length", USAGE, cut_by="context"), "model_context_window_exceeded", None),
        (Finished("memory", USAGE), "max_tokens", None),
        (Finished("tool_calls", USAGE), "tool_use", None),
    ],
)
def test_reasons_to_stop(end: Finished, reason: str, sequence: str | None) -> None:
    found = post(answering(TextDelta("a"), end), stop_sequences=["END"])
    assert (found["stop_reason"], found["stop_sequence"]) == (reason, sequence)
    last = stream(answering(TextDelta("a"), end), stop_sequences=["END"])[-2]
    assert last["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_there_is_always_a_block() -> None:
    assert post(FakeModels(script=says()))["content"] == [{"type": "text", "text": ""}]
    assert [event["type"] for event in stream(FakeModels(script=says()))][2:4] == [
        "content_block_start",
        "content_block_stop",
    ]


def test_text_that_was_reasoning() -> None:
    events = (TextDelta("so"), TextWasReasoning(), TextDelta("yes"), Finished("stop", USAGE))
    assert [block["type"] for block in post(answering(*events), thinking=THINK)["content"]] == ["thinking", "text"]
    found = stream(answering(*events), thinking=THINK)
    assert [event["index"] for event in found if event["type"] == "content_block_start"] == [0, 1]


def test_an_error_after_the_start_ends_the_stream() -> None:
    models = answering(TextDelta("a"), WorkerDied("the model's process ended"))
    assert stream(models)[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "the model's process ended"},
    }
    assert models.answers[0].cancelled
    assert stream(answering(TextDelta("a")))[-1]["type"] == "error"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ContextOverflow("too long"), 400, "invalid_request_error"),
        (UsageError("bad"), 400, "invalid_request_error"),
        (QueueFull("full"), 429, "rate_limit_error"),
        (DoesNotFit("too large"), 503, "overloaded_error"),
        (WorkerDied("gone"), 502, "api_error"),
    ],
)
def test_errors_before_the_start(error: Any, status: int, kind: str) -> None:
    for streamed in (False, True):
        body = {"model": "tiny", "max_tokens": 5, "messages": [USER], "stream": streamed}
        reply = client_of(FakeModels(refuses=error)).post("/v1/messages", json=body)
        assert reply.status_code == status
        found = reply.json()
        assert (found["type"], found["error"]["type"]) == ("error", kind)
        assert error.message in found["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_model_of_anthropics_is_not_here(path: str) -> None:
    body = {"model": "claude-sonnet-4-6", "messages": [USER]} | ({"max_tokens": 5} if path == "/v1/messages" else {})
    reply = client_of().post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["type"]) == (404, "not_found_error")
    assert "ANTHROPIC_DEFAULT_HAIKU_MODEL" in reply.json()["error"]["message"]
    other = client_of().post(path, json=body | {"model": "other"}).json()["error"]
    assert "ANTHROPIC" not in other["message"]


def test_what_a_model_is_asked() -> None:
    found = asked(
        system=[
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2;"},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Use tabs."},
        ],
        messages=[
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
            {
                "role": "assistant",
                "content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "d"}],
            },
            {"role": "system", "content": "e"},
            {"role": "user", "content": "f"},
        ],
        temperature=0.5,
        top_p=0.25,
        top_k=3,
        stop_sequences=["END"],
        output_config={"effort": "max"},
    )
    assert found.messages == (
        ChatMessage.system("Be brief.\n\nUse tabs."),
        ChatMessage.user("a\n\nb\n\nc"),
        ChatMessage.assistant("d"),
        ChatMessage.system("e"),
        ChatMessage.user("f"),
    )
    assert found.options == {"max_tokens": 20, "temperature": 0.5, "top_p": 0.25, "top_k": 3, "stop": ("END",)}
    assert asked(system="x-anthropic-billing-header: a").messages == (ChatMessage.user("hi"),)
    assert asked(thinking={"type": "adaptive"}, output_config={"effort": "max"}).reasoning_effort == "high"


def test_an_answer_that_has_begun() -> None:
    found = asked(messages=[USER, {"role": "assistant", "content": "The answer:"}])
    assert (found.messages, found.answer_prefix) == ((ChatMessage.user("hi"),), "The answer:")
    parts = [{"type": "text", "text": "The "}, {"type": "text", "text": "answer:"}]
    found = asked(messages=[USER, {"role": "assistant", "content": parts}], thinking={"type": "adaptive"})
    assert (found.answer_prefix, found.enable_thinking) == ("The answer:", False)
    assert asked(messages=[USER, {"role": "assistant", "content": ""}]).answer_prefix == ""


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_schema(field: str) -> None:
    schema = {"type": "json_schema", "schema": {"type": "object", "properties": {"title": {"type": "string"}}}}
    guidance = asked(**{field: {"format": schema} if field == "output_config" else schema}).guidance
    assert guidance is not None
    assert '"title"' in guidance.text


@pytest.mark.parametrize(
    ("choice", "wanted", "parallel"),
    [
        (None, "auto", True),
        ({"type": "auto"}, "auto", True),
        ({"type": "any"}, "required", True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "none"}, "none", True),
        ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}, True),
        (
            {"type": "tool", "name": "add", "disable_parallel_tool_use": True},
            {"type": "function", "function": {"name": "add"}},
            False,
        ),
    ],
)
def test_choices_of_tools(choice: Any, wanted: Any, parallel: bool) -> None:
    found = asked(tools=[ADD | {"type": "custom"}], tool_choice=choice)
    assert (found.tool_choice, found.parallel_tool_calls) == (wanted, parallel)
    assert [(tool.name, tool.strict) for tool in found.tools] == [("add", False)]
    assert asked(tools=[ADD | {"strict": True}]).tools[0].strict


def test_examples_are_shown_to_the_model() -> None:
    tool = asked(tools=[ADD | {"input_examples": [{"a": 1}, {"a": 2}]}]).tools[0]
    assert tool.description == 'Adds.\nExample: {"a": 1}\nExample: {"a": 2}'


def test_results_of_calls() -> None:
    found = asked(
        tools=[ADD],
        messages=[
            USER,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "go on"},
                    {"type": "tool_result", "tool_use_id": "t1"},
                    {"type": "tool_result", "tool_use_id": "t1", "content": "bad", "is_error": True},
                ],
            },
        ],
    ).messages
    assert found[2:] == (ChatMessage.tool("", "t1"), ChatMessage.tool("Error: bad", "t1"), ChatMessage.user("go on"))


def test_tokens_are_counted() -> None:
    reply = client_of().post("/v1/messages/count_tokens?beta=true", json=fixture("claude_code_count"))
    assert (reply.status_code, reply.json()) == (200, {"input_tokens": 7})


def test_the_first_request_of_claude_code() -> None:
    models = FakeModels()
    reply = client_of(models).post("/v1/messages?beta=true", json=fixture("claude_code_first"))
    assert reply.status_code == 200, reply.text
    assert events_of(reply.text)[-1][0] == "message_stop"
    found = models.asked[0][1]
    assert found.messages[0].content.startswith("You are Claude Code")
    assert "billing" not in found.messages[0].content
    assert [tool.name for tool in found.tools] == ["Bash", "WebFetch", "TodoWrite"]
    assert (found.enable_thinking, found.reasoning_effort) == (None, "medium")


def test_a_later_request_of_claude_code() -> None:
    models = FakeModels()
    reply = client_of(models).post("/v1/messages?beta=true", json=fixture("claude_code_next"))
    assert reply.status_code == 200, reply.text
    found = models.asked[0][1].messages
    assert [message.role for message in found] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert (found[2].reasoning, found[2].content) == ("I should list the files.", "I list the files.")
    assert [call.values["command"] for call in found[2].tool_calls] == ["ls | wc -l", "cat none"]
    assert [message.content for message in found[3:5]] == ["12", "Error: cat: none: No such file"]


@pytest.mark.parametrize("name", ["claude_code_title", "claude_code_quota"])
def test_small_requests_of_claude_code(name: str) -> None:
    models = FakeModels()
    reply = client_of(models).post("/v1/messages?beta=true", json=fixture(name))
    assert reply.status_code == 200, reply.text
    assert (models.asked[0][1].guidance is not None) is (name == "claude_code_title")


TEXT = {"type": "text", "text": "x"}
USE = {"type": "tool_use", "id": "t1", "name": "add", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}


def of_user(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def of_assistant(*blocks: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", "content": list(blocks)}, USER]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "20"}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [5]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [USER | {"name": "x"}]}, "messages[0].name"),
        (of_user("x"), "messages[0].content[0]"),
        (of_user({"text": "x"}), "messages[0].content[0].type"),
        (of_user({"type": "text"}), "messages[0].content[0].text"),
        (of_user(TEXT, {"type": "text", "text": 5}), "messages[0].content[1].text"),
        (of_user({"type": "image", "source": {}}), "messages[0].content[0].type"),
        (of_user({"type": "document", "source": {}}), "messages[0].content[0].type"),
        (of_user({"type": "search_result"}), "messages[0].content[0].type"),
        (of_user({"type": "strange"}), "messages[0].content[0].type"),
        (of_user(USE), "messages[0].content[0].type"),
        (of_user({"type": "thinking", "thinking": "x", "signature": ""}), "messages[0].content[0].type"),
        (of_user(RESULT), "messages[0].content[0].tool_use_id"),
        (of_user({"type": "tool_result", "content": "x"}), "messages[0].content[0].tool_use_id"),
        (of_user(RESULT | {"content": [{"type": "image"}]}), "messages[0].content[0].content[0].type"),
        (of_user(RESULT | {"content": 5}), "messages[0].content[0].content"),
        (of_user(RESULT | {"is_error": "no"}), "messages[0].content[0].is_error"),
        (of_assistant(RESULT), "messages[1].content[0].type"),
        (of_assistant({"type": "tool_use", "id": "t", "name": "f"}), "messages[1].content[0].input"),
        (of_assistant({"type": "tool_use", "id": "t", "name": "f", "input": "{}"}), "messages[1].content[0].input"),
        (of_assistant({"type": "tool_use", "id": "", "name": "f", "input": {}}), "messages[1].content[0].id"),
        (of_assistant({"type": "server_tool_use", "id": "t"}), "messages[1].content[0].type"),
        ({"messages": [USER, {"role": "assistant", "content": "x "}]}, "messages[1].content"),
        ({"messages": [USER, {"role": "assistant", "content": [USE]}]}, "messages[1].content"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}], "thinking": THINK}, "thinking"),
        ({"system": 5}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"system": [{"type": "text"}]}, "system[0].text"),
        ({"stream": 1}, "stream"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": [5]}, "stop_sequences[0]"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"stop": ["x"]}, "stop"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"thinking": True}, "thinking"),
        ({"thinking": {"type": "often"}}, "thinking.type"),
        ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, "output_config.format.schema"),
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0]"),
        ({"tools": [{"name": "f", "input_schema": {"type": "array"}}]}, "tools[0]"),
        ({"tools": [ADD, ADD]}, "tools[1]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [ADD], "tool_choice": "auto"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"tools": [ADD], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [ADD], "tool_choice": {"type": "tool", "name": "sub"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], field: str) -> None:
    models = FakeModels()
    reply = client_of(models).post("/v1/messages", json={"model": "tiny", "max_tokens": 5, "messages": [USER]} | body)
    assert reply.status_code == 400, reply.text
    found = reply.json()
    assert (found["type"], found["error"]["type"]) == ("error", "invalid_request_error")
    assert field in found["error"]["message"]
    assert models.asked == []


def test_fields_without_effect() -> None:
    none = {
        "metadata": {"user_id": "u"}, "service_tier": "auto", "cache_control": {"type": "ephemeral"},
        "context_management": {"edits": []}, "anthropic_beta": ["x"], "anthropic_version": "vertex", "speed": "fast",
        "inference_geo": "us", "container": None, "mcp_servers": [], "thinking": None, "top_k": None,
    }  # fmt: skip
    assert asked(**none) == asked()


@pytest.mark.parametrize("events", [CALLS, says("a", "b")(AnswerRequest())])
def test_a_stream_is_the_whole_in_pieces(events: Sequence[GenerationEvent]) -> None:
    whole = post(answering(*events), tools=[ADD], thinking=THINK)
    found = stream(answering(*events), tools=[ADD], thinking=THINK)
    assert found[-2]["usage"] == whole["usage"]
    texts = ["".join(e["delta"]["text"] for e in found if e.get("delta", {}).get("type") == "text_delta")]
    assert texts == [block["text"] for block in whole["content"] if block["type"] == "text"]


def test_methods_that_do_not_exist() -> None:
    found = client_of().get("/v1/messages")
    assert (found.status_code, found.json()["type"]) == (405, "error")
    assert client_of().post("/v1/messages/batches", json={}).json()["error"]["type"] == "not_found_error"


def test_a_silent_stream_is_kept_alive() -> None:
    models = FakeModels(script=lambda request: (0.2, *says("a")(request)))
    body = {"model": "tiny", "max_tokens": 5, "messages": [USER], "stream": True}
    found = events_of(client_of(models, ping_s=0.02).post("/v1/messages", json=body).text)
    assert [name for name, _ in found[:3]] == ["message_start", "ping", "ping"]
    assert [name for name, _ in events_of(client_of(models, ping_s=0).post("/v1/messages", json=body).text)].count(
        "ping"
    ) == 1
