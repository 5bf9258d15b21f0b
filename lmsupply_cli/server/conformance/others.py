"""OpenAI's completions and responses, and the APIs of Anthropic and Ollama."""

from __future__ import annotations

import json
from typing import Any

from lmsupply_cli.server.conformance.chat import SCHEMA, follows_schema
from lmsupply_cli.server.conformance.check import Table, expect, has, ok, present, refused
from lmsupply_cli.server.conformance.client import Client

completions, responses = Table("openai completions"), Table("openai responses")
anthropic, ollama = Table("anthropic messages"), Table("ollama")
PROMPT = "Say hello, then count to ten."
USER = [{"role": "user", "content": PROMPT}]
LONG = "one two three four five six seven eight nine ten " * 40_000


def _complete(client: Client, **changes: Any) -> dict[str, Any]:
    return {"model": client.model, "prompt": PROMPT, "max_tokens": 16, "temperature": 0} | changes


@completions.check("a prompt as text", "a choice with text, and usage")
def completion(client: Client) -> None:
    found = ok(client.post("/v1/completions", _complete(client)))
    has(found, "id", "object", "created", "model", "choices", "usage")
    expect(isinstance(found["choices"][0]["text"], str), "no text")


@completions.check("stop: a text from the middle of the completion", "the text up to there")
def completion_stop(client: Client) -> None:
    for prompt in (PROMPT, "one two three four five", "To list models, run"):
        whole = ok(client.post("/v1/completions", _complete(client, prompt=prompt)))["choices"][0]["text"]
        if len(whole) >= 6:
            break
    middle = whole[len(whole) // 2 :][:3]
    expect(len(middle) >= 2, f"the completion is too short to try: {whole!r}")
    found = ok(client.post("/v1/completions", _complete(client, prompt=prompt, stop=middle)))["choices"][0]["text"]
    expect(found == whole[: whole.index(middle)], f"{found!r} of {whole!r}")


@completions.check("a prompt that is longer than any context", "400 with the code context_length_exceeded")
def completion_overflow(client: Client) -> None:
    reply = client.post("/v1/completions", _complete(client, prompt=LONG))
    refused(reply, code="context_length_exceeded", status=(400,))


def _respond(client: Client, **changes: Any) -> dict[str, Any]:
    return {"model": client.model, "input": PROMPT, "max_output_tokens": 24, "temperature": 0} | changes


@responses.check("input as text", "the keys that the client needs, and an output of one message")
def response(client: Client) -> None:
    found = ok(client.post("/v1/responses", _respond(client)))
    has(found, "id", "created_at", "model", "object", "output", "parallel_tool_calls", "tool_choice", "tools", "usage")
    has(
        found["usage"], "input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens"
    )
    kinds = [item["type"] for item in found["output"]]
    expect("message" in kinds, f"output {kinds}")


@responses.check("stream: true", "the full order of events, numbered, with unchanged ids")
def response_events(client: Client) -> None:
    reply = present(client.post("/v1/responses", _respond(client, stream=True)))
    expect(reply.status == 200, reply.short())
    events = [data for _, data in reply.events if data != "[DONE]"]
    kinds = [event["type"] for event in events]
    expect(kinds[:2] == ["response.created", "response.in_progress"], f"it begins with {kinds[:2]}")
    expect(kinds[-1] in ("response.completed", "response.incomplete"), f"it ends with {kinds[-1]}")
    numbers = [event["sequence_number"] for event in events]
    expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))), "numbers that skip")
    order = [k.removeprefix("response.") for k in kinds]
    for before, after in (
        ("output_item.added", "content_part.added"),
        ("content_part.added", "output_text.delta"),
        ("output_text.delta", "output_text.done"),
        ("output_text.done", "content_part.done"),
        ("content_part.done", "output_item.done"),
    ):
        expect(before in order and after in order and order.index(before) < order.index(after), f"{before}, {after}")
    expect(len({e["response"]["id"] for e in events if "response" in e}) == 1, "the id changes")


@responses.check("previous_response_id of no response", "a refusal that names it")
def previous_response(client: Client) -> None:
    refused(
        client.post("/v1/responses", _respond(client, previous_response_id="resp_0")),
        names="previous_response",
        status=(400, 404),
    )


@responses.check("text.format: json_schema", "an output that follows the schema")
def response_schema(client: Client) -> None:
    wanted = {"format": {"type": "json_schema", "name": "lamp", "strict": True, "schema": SCHEMA}}
    found = ok(client.post("/v1/responses", _respond(client, text=wanted, max_output_tokens=100)))
    follows_schema(_output_text(found))


def _output_text(found: Any) -> str:
    parts = [part for item in found["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


@responses.check("tool_choice: required", "an output item function_call whose arguments follow the schema")
def response_call(client: Client) -> None:
    tool = {"type": "function", "name": "set_lamp", "parameters": SCHEMA, "strict": True}
    found = ok(
        client.post("/v1/responses", _respond(client, tools=[tool], tool_choice="required", max_output_tokens=100))
    )
    calls = [item for item in found["output"] if item["type"] == "function_call"]
    expect(calls, f"no call in {[item['type'] for item in found['output']]}")
    has(calls[0], "call_id", "name", "arguments")
    follows_schema(calls[0]["arguments"])


@responses.check("max_output_tokens: 1", "the status incomplete, for max_output_tokens")
def response_cut(client: Client) -> None:
    found = ok(client.post("/v1/responses", _respond(client, max_output_tokens=1)))
    reason = (found.get("incomplete_details") or {}).get("reason")
    expect(found["status"] == "incomplete" and reason == "max_output_tokens", f"status {found['status']}, {reason}")


def _message(client: Client, **changes: Any) -> dict[str, Any]:
    return {"model": client.model, "messages": USER, "max_tokens": 24, "temperature": 0} | changes


VERSION = {"anthropic-version": "2023-06-01"}


@anthropic.check("one message", "type, role, content, stop_reason and usage")
def message(client: Client) -> None:
    found = ok(client.post("/v1/messages", _message(client), VERSION))
    has(found, "id", "type", "role", "model", "content", "stop_reason", "usage")
    expect(found["type"] == "message" and found["content"][0]["type"] == "text", f"content {found['content']}")
    expect(found["stop_reason"] in ("end_turn", "max_tokens"), f"stop_reason {found['stop_reason']}")


@anthropic.check("no max_tokens", "400 invalid_request_error that names it")
def message_without_limit(client: Client) -> None:
    asked = {name: value for name, value in _message(client).items() if name != "max_tokens"}
    reply = client.post("/v1/messages", asked, VERSION)
    refused(reply, names="max_tokens", code="invalid_request_error", status=(400,))


@anthropic.check("max_tokens: 2", "stop_reason max_tokens")
def message_cut(client: Client) -> None:
    found = ok(client.post("/v1/messages", _message(client, max_tokens=2), VERSION))
    expect(found["stop_reason"] == "max_tokens", f"stop_reason {found['stop_reason']}")


@anthropic.check("stop_sequences", "stop_reason stop_sequence, and which one")
def message_stop(client: Client) -> None:
    whole = ok(client.post("/v1/messages", _message(client), VERSION))["content"][0]["text"]
    middle = whole[len(whole) // 2 :][:4]
    found = ok(client.post("/v1/messages", _message(client, stop_sequences=[middle]), VERSION))
    said = (found["stop_reason"], found["stop_sequence"])
    expect(said == ("stop_sequence", middle), f"{said} for {middle!r}")


@anthropic.check(
    "stream: true", "message_start, blocks that open and close, message_delta with stop_reason, message_stop"
)
def message_events(client: Client) -> None:
    reply = present(client.post("/v1/messages", _message(client, stream=True), VERSION))
    expect(reply.status == 200, reply.short())
    expect(all(name == data["type"] for name, data in reply.events), "an event whose name is not its type")
    kinds = [name for name, _ in reply.events if name != "ping"]
    inner = [kind for kind in kinds if kind != "content_block_delta"]
    wanted = ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    expect(inner == wanted, f"the order is {inner}")
    expect("content_block_delta" in kinds, "no text")


@anthropic.check("tool_choice: any", "a block tool_use whose input follows the schema, stop_reason tool_use")
def message_call(client: Client) -> None:
    tool = {"name": "set_lamp", "description": "Set a lamp.", "input_schema": SCHEMA}
    asked = _message(client, tools=[tool], tool_choice={"type": "any"}, max_tokens=100)
    found = ok(client.post("/v1/messages", asked, VERSION))
    used = [block for block in found["content"] if block["type"] == "tool_use"]
    expect(used, f"no call in {[block['type'] for block in found['content']]}")
    follows_schema(json.dumps(used[0]["input"]))
    expect(found["stop_reason"] == "tool_use", f"stop_reason {found['stop_reason']}")


@anthropic.check("count_tokens, then the message", "the same number of tokens as in its usage")
def message_count(client: Client) -> None:
    asked = {"model": client.model, "messages": USER}
    counted = ok(client.post("/v1/messages/count_tokens", asked, VERSION))["input_tokens"]
    usage = ok(client.post("/v1/messages", _message(client), VERSION))["usage"]
    read = (
        usage["input_tokens"]
        + (usage.get("cache_read_input_tokens") or 0)
        + (usage.get("cache_creation_input_tokens") or 0)
    )
    expect(counted == read, f"{counted} counted, {read} read")


@anthropic.check("a prompt that is longer than any context", "400, nothing cut")
def message_overflow(client: Client) -> None:
    asked = _message(client, messages=[{"role": "user", "content": LONG}])
    refused(client.post("/v1/messages", asked, VERSION), status=(400, 413))


def _chat(client: Client, **changes: Any) -> dict[str, Any]:
    options = {"temperature": 0, "num_predict": 24} | changes.pop("options", {})
    return {"model": client.model, "messages": USER, "options": options} | changes


@ollama.check("GET /api/tags", "the models, with name, size and digest")
def tags(client: Client) -> None:
    rows = ok(client.get("/api/tags"))["models"]
    expect(rows, "no models")
    for row in rows:
        has(row, "name", "model", "size", "digest", "modified_at", "details")


@ollama.check("/api/show", "capabilities")
def show(client: Client) -> None:
    expect("completion" in ok(client.post("/api/show", {"model": client.model}))["capabilities"], "no completion")


@ollama.check("/api/chat", "lines of JSON; the last one is done, with counts and durations in nanoseconds")
def chat_lines(client: Client) -> None:
    reply = present(client.post("/api/chat", _chat(client)))
    expect(reply.status == 200, reply.short())
    lines = reply.lines
    expect([line["done"] for line in lines] == [False] * (len(lines) - 1) + [True], "done is wrong")
    last = lines[-1]
    has(last, "done_reason", "total_duration", "prompt_eval_count", "eval_count", "eval_duration")
    expect(last["done_reason"] in ("stop", "length") and last["total_duration"] > 10_000, f"the last is {last}")


@ollama.check("num_predict: 2", "two tokens, done_reason length")
def num_predict(client: Client) -> None:
    found = ok(client.post("/api/chat", _chat(client, stream=False, options={"num_predict": 2})))
    expect(
        (found["eval_count"], found["done_reason"]) == (2, "length"), f"{found['eval_count']}, {found['done_reason']}"
    )


@ollama.check("format: a schema", "an answer that follows it")
def chat_schema(client: Client) -> None:
    found = ok(client.post("/api/chat", _chat(client, stream=False, format=SCHEMA, options={"num_predict": 100})))
    follows_schema(found["message"]["content"])


@ollama.check("a prompt that is longer than any context", "an error, nothing cut")
def chat_overflow(client: Client) -> None:
    asked = _chat(client, messages=[{"role": "user", "content": LONG}], stream=False)
    refused(client.post("/api/chat", asked), status=(400, 413))


@ollama.check("an option that does not exist", "a refusal that names it")
def unknown_option(client: Client) -> None:
    refused(client.post("/api/chat", _chat(client, options={"temprature": 1})), names="temprature")


@ollama.check("/api/generate", "a response, done, with token counts")
def generate(client: Client) -> None:
    asked = {"model": client.model, "prompt": PROMPT, "stream": False, "options": {"num_predict": 8}}
    has(ok(client.post("/api/generate", asked)), "response", "done", "done_reason", "eval_count")
