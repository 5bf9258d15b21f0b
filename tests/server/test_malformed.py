"""Requests that are wrong: each is refused with the field named, and no model is asked."""

from __future__ import annotations

from typing import Any

import pytest
from support.api import client_of
from support.fake_models import FakeModels

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
PROMPT = {"model": "tiny", "prompt": "hi"}
USER = {"role": "user", "content": "hi"}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def of(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def part(kind: str, **values: Any) -> dict[str, Any]:
    return of({"role": "user", "content": [{"type": kind, **values}]})


def called(**changes: Any) -> dict[str, Any]:
    return of(USER, {"role": "assistant", "content": None, "tool_calls": [CALL | changes]})


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "add"} | function}]}


def format(**values: Any) -> dict[str, Any]:
    return {"response_format": values}


CHATS: list[tuple[str, dict[str, Any]]] = [
    # (the field that is named, what is wrong)
    ("model", {"model": None}),
    ("model", {"model": ""}),
    ("model", {"model": 7}),
    ("messages", {"messages": None}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "hi"}),
    ("messages", {"messages": [USER] * 10_001}),
    ("messages[0]", {"messages": ["hi"]}),
    ("messages[0].role", of({"content": "hi"})),
    ("messages[0].role", of({"role": "robot", "content": "hi"})),
    ("messages[0].role", of({"role": "function", "name": "add", "content": "3"})),
    ("messages[1].content", of(USER, {"role": "user"})),
    ("messages[0].content", of({"role": "user", "content": None})),
    ("messages[0].content", of({"role": "user", "content": 7})),
    ("messages[0].content", of({"role": "user", "content": {"type": "text", "text": "hi"}})),
    ("messages[1].content", of(USER, {"role": "assistant", "content": None})),
    ("messages[0].content[0].type", part("image_url", image_url={"url": "data:image/png;base64,"})),
    ("messages[0].content[0].type", part("input_audio", input_audio={"data": "", "format": "wav"})),
    ("messages[0].content[0].type", part("file", file={"file_id": "x"})),
    ("messages[0].content[0].type", part("hologram")),
    ("messages[0].content[0].type", of({"role": "user", "content": [{"text": "hi"}]})),
    ("messages[0].content[0].text", part("text")),
    ("messages[0].content[0].text", part("text", text=1)),
    ("messages[0].content[0].color", part("text", text="hi", color="red")),
    ("messages[0].content[0]", of({"role": "user", "content": ["hi"]})),
    ("messages[0].mood", of(USER | {"mood": "good"})),
    ("messages[0].tool_calls", of(USER | {"tool_calls": [CALL]})),
    ("messages[0].tool_call_id", of(USER | {"tool_call_id": "c1"})),
    ("messages[0].function_call", of(USER | {"function_call": {"name": "add", "arguments": "{}"}})),
    ("messages[1].audio", of(USER, {"role": "assistant", "content": "a", "audio": {"id": "x"}})),
    ("messages[1].tool_call_id", of(USER, {"role": "tool", "content": "3"})),
    ("messages[1].tool_call_id", of(USER, {"role": "tool", "content": "3", "tool_call_id": "c9"})),
    ("messages[1].tool_calls[0].id", called(id="")),
    ("messages[1].tool_calls[0].type", called(type="custom")),
    ("messages[1].tool_calls[0].function", called(function=None)),
    ("messages[1].tool_calls[0].function.name", called(function={"name": "", "arguments": "{}"})),
    ("messages[1].tool_calls[0].function.arguments", called(function={"name": "add"})),
    ("messages[1].tool_calls[0].function.arguments", called(function={"name": "add", "arguments": {}})),
    ("messages[1].tool_calls[0].function.arguments", called(function={"name": "add", "arguments": "{"})),
    ("messages[1].tool_calls[0].function.arguments", called(function={"name": "add", "arguments": "[1]"})),
    ("temperature", {"temperature": "0.5"}),
    ("temperature", {"temperature": True}),
    ("temperature", {"temperature": -1}),
    ("temperature", {"temperature": [0]}),
    ("top_p", {"top_p": 1.5}),
    ("top_p", {"top_p": -0.1}),
    ("top_k", {"top_k": 1.5}),
    ("top_k", {"top_k": -2}),
    ("min_p", {"min_p": 2}),
    ("repetition_penalty", {"repetition_penalty": 0}),
    ("presence_penalty", {"presence_penalty": 3}),
    ("frequency_penalty", {"frequency_penalty": -2.5}),
    ("seed", {"seed": 1.5}),
    ("seed", {"seed": "1"}),
    ("n", {"n": 0}),
    ("n", {"n": 17}),
    ("n", {"n": "2"}),
    ("stop", {"stop": 7}),
    ("stop", {"stop": ""}),
    ("stop", {"stop": ["a", ""]}),
    ("stop[1]", {"stop": ["a", 7]}),
    ("stop", {"stop": ["a"] * 65}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": -1}),
    ("max_tokens", {"max_tokens": 1.5}),
    ("max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
    ("max_completion_tokens", {"max_completion_tokens": 0}),
    ("logprobs", {"logprobs": 1}),
    ("top_logprobs", {"top_logprobs": 5}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": -1}),
    ("logit_bias", {"logit_bias": [1]}),
    ("logit_bias.5", {"logit_bias": {"5": "x"}}),
    ("logit_bias", {"logit_bias": {"5": 101}}),
    ("logit_bias", {"logit_bias": {"cat": 1}}),
    ("logit_bias", {"logit_bias": {"-1": 1}}),
    ("stream", {"stream": "yes"}),
    ("stream_options", {"stream": True, "stream_options": True}),
    ("stream_options.include_usage", {"stream": True, "stream_options": {"include_usage": 1}}),
    ("stream_options.usage", {"stream": True, "stream_options": {"usage": True}}),
    ("response_format", {"response_format": "json"}),
    ("response_format.type", format()),
    ("response_format.type", format(type="xml")),
    ("response_format.type", format(type="grammar", grammar="x")),
    ("response_format.json_schema", format(type="json_schema", json_schema="x")),
    ("response_format.json_schema.schema", format(type="json_schema", json_schema={"name": "x", "schema": []})),
    ("response_format.json_schema.schema", format(type="json_schema", json_schema={"schema": {"type": "strnig"}})),
    ("response_format.json_schema.schema", format(type="json_schema", json_schema={"schema": {"contains": {}}})),
    ("response_format.schema", format(type="json_schema", schema={"type": "string", "format": "color"})),
    ("response_format.schema", format(type="json_schema", schema={"$ref": "http://example.com/x"})),
    ("tools", {"tools": ADD}),
    ("tools[0]", {"tools": ["add"]}),
    ("tools[0].type", {"tools": [{"function": {"name": "add"}}]}),
    ("tools[0].type", {"tools": [{"type": "custom", "custom": {"name": "add"}}]}),
    ("tools[0].type", {"tools": [{"type": "web_search"}]}),
    ("tools[0].function", {"tools": [{"type": "function"}]}),
    ("tools[0].function.name", tool(name=7)),
    ("tools[0]", tool(name="")),
    ("tools[0]", tool(name="add two")),
    ("tools[0].function.parameters", tool(parameters="x")),
    ("tools[0]", tool(parameters={"type": "string"})),
    ("tools[0].function.strict", tool(strict="yes")),
    ("tools[0].function.examples", tool(examples=[])),
    ("tools[1]", {"tools": [ADD, ADD]}),
    ("tools", {"tools": [ADD] * 1001}),
    ("tool_choice", {"tools": [ADD], "tool_choice": "any"}),
    ("tool_choice", {"tools": [ADD], "tool_choice": 7}),
    ("tool_choice", {"tool_choice": "required"}),
    ("tool_choice", {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "sub"}}}),
    ("tool_choice", {"tool_choice": {"type": "function", "function": {"name": "add"}}}),
    ("tool_choice.type", {"tools": [ADD], "tool_choice": {"type": "custom", "custom": {"name": "add"}}}),
    ("tool_choice.function", {"tools": [ADD], "tool_choice": {"type": "function"}}),
    ("tool_choice.allowed_tools", {"tools": [ADD], "tool_choice": {"type": "allowed_tools"}}),
    (
        "tool_choice.allowed_tools.tools",
        {"tools": [ADD], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
    ),
    ("parallel_tool_calls", {"parallel_tool_calls": 1}),
    ("reasoning_effort", {"reasoning_effort": "enormous"}),
    (
        "reasoning_effort",
        {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
    ),
    ("chat_template_kwargs.enable_thinking", {"chat_template_kwargs": {"enable_thinking": "no"}}),
    ("chat_template_kwargs.date_string", {"chat_template_kwargs": {"date_string": "today"}}),
    ("verbosity", {"verbosity": "low"}),
    ("modalities[0]", {"modalities": ["audio"]}),
    ("audio", {"audio": {"voice": "alloy", "format": "wav"}}),
    ("functions", {"functions": [{"name": "add"}]}),
    ("function_call", {"function_call": "auto"}),
    ("web_search_options", {"web_search_options": {"search_context_size": "low"}}),
    ("moderation", {"moderation": {"model": "x"}}),
    ("temprature", {"temprature": 0.5}),
    ("num_ctx", {"num_ctx": 4096}),
    ("best_of", {"best_of": 2}),
]
TEXTS: list[tuple[str, dict[str, Any]]] = [
    ("model", {"model": None}),
    ("prompt", {"prompt": None}),
    ("prompt", {"prompt": ""}),
    ("prompt", {"prompt": []}),
    ("prompt", {"prompt": {"text": "hi"}}),
    ("prompt", {"prompt": [True]}),
    ("prompt", {"prompt": [1.5]}),
    ("prompt[1]", {"prompt": ["a", 1]}),
    ("prompt[1]", {"prompt": ["a", ""]}),
    ("prompt[1]", {"prompt": [1, "a"]}),
    ("prompt[0]", {"prompt": [-1]}),
    ("prompt[1]", {"prompt": [[1], []]}),
    ("prompt[0][1]", {"prompt": [[1, "a"]]}),
    ("prompt", {"prompt": ["a"] * 65}),
    ("n", {"prompt": ["a"] * 60, "n": 3}),
    ("n", {"n": 0}),
    ("best_of", {"best_of": 3}),
    ("best_of", {"best_of": "3"}),
    ("echo", {"echo": "yes"}),
    ("echo", {"echo": True, "logprobs": 1}),
    ("echo", {"echo": True, "prompt": [1, 2]}),
    ("echo", {"echo": True, "suffix": "b"}),
    ("suffix", {"suffix": 7}),
    ("suffix", {"suffix": "b", "prompt": [1, 2]}),
    ("logprobs", {"logprobs": True}),
    ("logprobs", {"logprobs": -1}),
    ("logprobs", {"logprobs": 21}),
    ("max_tokens", {"max_tokens": 0}),
    ("temperature", {"temperature": "hot"}),
    ("messages", {"messages": []}),
    ("tools", {"tools": [ADD]}),
]


def refused(path: str, body: dict[str, Any], field: str) -> None:
    models = FakeModels()
    reply = client_of(models).post(path, json={name: value for name, value in body.items() if value is not None})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == field, error
    assert error["type"] == "invalid_request_error"
    assert error["code"] in (
        "invalid_value", "unknown_parameter", "missing_required_parameter", "unsupported_parameter",
    )  # fmt: skip
    assert field.rpartition(".")[2].partition("[")[0] in error["message"], "the message names it too"
    assert models.asked == []


@pytest.mark.parametrize(("field", "changes"), CHATS)
def test_chat_completions(field: str, changes: dict[str, Any]) -> None:
    refused(CHAT, HELLO | changes, field)


@pytest.mark.parametrize(("field", "changes"), TEXTS)
def test_completions(field: str, changes: dict[str, Any]) -> None:
    refused(TEXT, PROMPT | changes, field)


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"hi", b"[]", b'"hi"', b"null", b"{", b'{"model": NaN}', b'{"model": Infinity}', b"\xff\xfe", b'{"a": 1e}',
        b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object(path: str, body: bytes) -> None:
    reply = client_of().post(path, content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    "changes", [{"messages": [USER] * 3 + [{"role": "user", "content": [[]] * 3}]}, {"seed": 10**40}, {"top_k": 10**30}]
)
def test_odd_sizes_are_answered(changes: dict[str, Any]) -> None:
    assert client_of().post(CHAT, json=HELLO | changes).status_code in (200, 400)


def test_a_typo_is_pointed_out() -> None:
    error = client_of().post(CHAT, json=HELLO | {"temprature": 1}).json()["error"]
    assert error["message"] == "unknown field temprature (did you mean temperature?)"


@pytest.mark.parametrize("depth", [50, 500, 5000])
def test_deep_schemas_are_refused_or_followed(depth: int) -> None:
    text = '{"type": "array", "items": ' * depth + '{"type": "string"}' + "}" * depth
    format = '{"type": "json_schema", "schema": ' + text + "}"
    body = '{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "response_format": ' + format + "}"
    reply = client_of().post(CHAT, content=body.encode())
    assert reply.status_code in (200, 400)
