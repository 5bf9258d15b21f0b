"""OpenAI's chat completions: fields, errors, streams."""

from __future__ import annotations

import json
from typing import Any

from lmsupply_cli.server.conformance.check import Table, expect, has, ok, present, refused
from lmsupply_cli.server.conformance.client import Client

table = Table("openai chat")
PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello, then count to ten."}]
SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["color", "count"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "set_lamp", "description": "Set the color of a lamp.", "parameters": SCHEMA},
}
OTHER = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


def body(client: Client, **changes: Any) -> dict[str, Any]:
    """A short greedy request."""
    return {"model": client.model, "messages": HELLO, "max_tokens": 24, "temperature": 0} | changes


def ask(client: Client, **changes: Any) -> Any:
    """The JSON of an answer."""
    return ok(client.post(PATH, body(client, **changes)))


def text_of(answer: Any) -> str:
    """Of the first choice."""
    content = answer["choices"][0]["message"].get("content")
    return content if isinstance(content, str) else ""


def stream(client: Client, **changes: Any) -> list[Any]:
    """The data of the events."""
    reply = present(client.post(PATH, body(client, stream=True, **changes)))
    expect(reply.status == 200, reply.short())
    kind = reply.headers.get("content-type", "")
    expect(kind.startswith("text/event-stream"), f"the content type is {kind!r}")
    return [data for _, data in reply.events]


def follows_schema(text: str) -> None:
    """Raises Mismatch for a text that does not follow SCHEMA."""
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    fine = (
        isinstance(values, dict)
        and values.keys() == {"color", "count"}
        and values["color"] in ("red", "green")
        and type(values["count"]) is int
        and 1 <= values["count"] <= 9
    )
    expect(fine, f"the answer does not follow the schema: {text[:100]!r}")


def called(answer: Any, name: str) -> None:
    """Raises Mismatch for an answer that is no call of the tool."""
    choice = answer["choices"][0]
    calls = choice["message"].get("tool_calls") or []
    expect(calls, f"no tool call; the answer is {text_of(answer)[:80]!r}")
    call = calls[0]
    expect(call["function"]["name"] == name, f"it called {call['function']['name']}")
    expect(isinstance(call["function"]["arguments"], str), "the arguments are no string")
    expect(call.get("id") and call.get("type") == "function", "a call without id or type")
    if name == "set_lamp":
        follows_schema(call["function"]["arguments"])
    expect(choice["finish_reason"] in ("tool_calls", "stop"), f"finish_reason {choice['finish_reason']!r}")


@table.check("GET /v1/models", "a list of models with id, object, created and owned_by, the asked one among them")
def models(client: Client) -> None:
    listed = ok(client.get("/v1/models"))
    expect(listed.get("object") == "list", "no object: list")
    for row in listed["data"]:
        has(row, "id", "object", "created", "owned_by")
    names = [row["id"] for row in listed["data"]]
    expect(
        any(client.model in (name, name.split(":")[0]) for name in names), f"{client.model} is not among {names[:5]}"
    )


@table.check("a model that does not exist", "404 with the code model_not_found")
def unknown_model(client: Client) -> None:
    reply = client.post(PATH, body(client, model="no-such-model-here"))
    refused(reply, names="no-such-model-here", status=(404,))


@table.check("one message", "id, object, created, model, choices, and usage that adds up")
def answer(client: Client) -> None:
    found = ask(client)
    has(found, "id", "object", "created", "model", "choices", "usage")
    expect(found["object"] == "chat.completion", f"object {found['object']!r}")
    message = found["choices"][0]["message"]
    expect(message["role"] == "assistant" and isinstance(message["content"], str), f"message {message}")
    expect(found["choices"][0]["finish_reason"] in ("stop", "length"), "no finish_reason")
    usage = found["usage"]
    expect(
        usage["prompt_tokens"] > 0 and usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"],
        f"usage {usage}",
    )


@table.check("content as a list of text parts", "the same answer as with the text")
def content_parts(client: Client) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": HELLO[0]["content"]}]}]
    expect(text_of(ask(client, messages=parts)) == text_of(ask(client)), "another answer")


@table.check("the role developer", "the answer that the role system gives")
def developer_role(client: Client) -> None:
    said = [
        text_of(ask(client, messages=[{"role": r, "content": "Be brief."}, *HELLO])) for r in ("developer", "system")
    ]
    expect(said[0] == said[1], "another answer")


@table.check("max_tokens: 3", "at most three tokens, finish_reason length")
def max_tokens(client: Client) -> None:
    _cut_at_three(ask(client, max_tokens=3))


@table.check("max_completion_tokens: 3", "at most three tokens, finish_reason length")
def max_completion_tokens(client: Client) -> None:
    asked = {name: value for name, value in body(client).items() if name != "max_tokens"}
    _cut_at_three(ok(client.post(PATH, asked | {"max_completion_tokens": 3})))


def _cut_at_three(found: Any) -> None:
    written, reason = found["usage"]["completion_tokens"], found["choices"][0]["finish_reason"]
    expect(written <= 3 and reason == "length", f"{written} tokens, finish_reason {reason!r}")


@table.check("stop: a text from the middle of the answer", "the answer up to there, without it, finish_reason stop")
def stop(client: Client) -> None:
    whole = text_of(ask(client))
    middle = whole[len(whole) // 2 :][:4]
    expect(len(middle) >= 2, f"the answer is too short to try: {whole!r}")
    for value in (middle, [middle, "never written"]):
        found = ask(client, stop=value)
        expected = whole[: whole.index(middle)]
        expect(text_of(found).rstrip() == expected.rstrip(), f"{text_of(found)!r} instead of {expected!r}")
        expect(found["choices"][0]["finish_reason"] == "stop", "another finish_reason")


@table.check("temperature: 2 with the same seed twice, then with other seeds", "the same answer, then another one")
def seed(client: Client) -> None:
    drawn = {"temperature": 2.0, "top_p": 1.0, "max_tokens": 32}
    first, second = (text_of(ask(client, seed=7, **drawn)) for _ in range(2))
    expect(first == second, "the same seed gives two answers")
    others = {text_of(ask(client, seed=number, **drawn)) for number in range(100, 106)}
    expect(others != {first}, "the seed has no effect")


@table.check("temperature: 0 twice", "the same answer")
def greedy(client: Client) -> None:
    expect(text_of(ask(client)) == text_of(ask(client)), "two answers")


@table.check("n: 2", "two choices with the indices 0 and 1, or a refusal that names n")
def several_choices(client: Client) -> None:
    reply = client.post(PATH, body(client, n=2, temperature=1.0, seed=1))
    if reply.status != 200:
        return refused(reply, names="n")
    expect([choice["index"] for choice in reply.json["choices"]] == [0, 1], f"{len(reply.json['choices'])} choices")
    return None


@table.check("logprobs: true, top_logprobs: 2", "a logarithm and two alternatives for each token, or a refusal by name")
def logprobs(client: Client) -> None:
    reply = client.post(PATH, body(client, logprobs=True, top_logprobs=2, max_tokens=4))
    if reply.status != 200:
        return refused(reply, names="logprobs")
    rows = (reply.json["choices"][0].get("logprobs") or {}).get("content") or []
    expect(rows, "no logprobs")
    for row in rows:
        expect(row["logprob"] <= 0 and len(row["top_logprobs"]) == 2, f"a row {row}")
    return None


@table.check("logit_bias: 100 for one token", "an answer of that token alone, or a refusal by name")
def logit_bias(client: Client) -> None:
    for token in ("300", "301", "302"):
        reply = client.post(PATH, body(client, logit_bias={token: 100}, max_tokens=6))
        if reply.status != 200:
            return refused(reply, names="logit_bias")
        text = text_of(reply.json)
        half = text[: len(text) // 2]
        if text and text == half + half and text != text_of(ask(client, max_tokens=6)):
            return None
    expect(False, "the bias has no effect")
    return None


@table.check("a field that does not exist", "a refusal that names it")
def unknown_field(client: Client) -> None:
    refused(client.post(PATH, body(client, repetition_penalti=1.5)), names="repetition_penalti")


@table.check("temperature: 'hot'", "a refusal that names temperature")
def wrong_type(client: Client) -> None:
    refused(client.post(PATH, body(client, temperature="hot")), names="temperature")


@table.check("temperature: -1, top_p: -1, max_tokens: -5, n: 0", "each refused, and named")
def out_of_range(client: Client) -> None:
    for name, value in (("temperature", -1), ("top_p", -1), ("max_tokens", -5), ("n", 0)):
        refused(client.post(PATH, body(client, **{name: value})), names=name)


@table.check("no messages; messages: []; a message without role", "each refused, and messages named")
def wrong_messages(client: Client) -> None:
    for messages in (None, [], [{"content": "hi"}]):
        refused(client.post(PATH, body(client, messages=messages)), names="messages")


@table.check("a body that is no JSON", "400 with an error object")
def no_json(client: Client) -> None:
    refused(client.post(PATH, b'{"model": '), status=(400,))


@table.check("an image, for a model that reads text alone", "a refusal, not an answer without the image")
def image(client: Client) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    question = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    refused(client.post(PATH, body(client, messages=question)), status=(400, 404, 415, 422, 500, 501))


@table.check("a prompt that is longer than any context", "400 with the code context_length_exceeded, nothing cut")
def context_overflow(client: Client) -> None:
    long = [{"role": "user", "content": "one two three four five six seven eight nine ten " * 40_000}]
    refused(client.post(PATH, body(client, messages=long)), code="context_length_exceeded", status=(400,))


@table.check("response_format: json_object", "an answer that is a JSON object")
def json_object(client: Client) -> None:
    asked = [{"role": "user", "content": "Answer with a JSON object with one key, ok."}]
    found = ask(client, messages=asked, response_format={"type": "json_object"}, max_tokens=200)
    if found["choices"][0]["finish_reason"] == "length":
        return  # it is cut, which the reason says
    expect(isinstance(json.loads(text_of(found)), dict), f"the answer is {text_of(found)[:80]!r}")


@table.check("response_format: json_schema", "an answer that follows the schema")
def json_schema(client: Client) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "lamp", "strict": True, "schema": SCHEMA}}
    follows_schema(text_of(ask(client, response_format=wanted, max_tokens=100)))


@table.check("response_format of a type that does not exist", "a refusal that names response_format")
def unknown_format(client: Client) -> None:
    refused(client.post(PATH, body(client, response_format={"type": "haiku"})), names="response_format")


@table.check("tool_choice: required", "a call whose arguments follow the tool's schema")
def tool_required(client: Client) -> None:
    called(ask(client, tools=[TOOL], tool_choice="required", max_tokens=100), "set_lamp")


@table.check("tool_choice: the name of one of two tools", "a call of that tool")
def tool_named(client: Client) -> None:
    wanted = {"type": "function", "function": {"name": "set_lamp"}}
    called(ask(client, tools=[OTHER, TOOL], tool_choice=wanted, max_tokens=100), "set_lamp")


@table.check("tool_choice: none", "an answer without a call")
def tool_none(client: Client) -> None:
    found = ask(client, tools=[TOOL], tool_choice="none")
    expect(not found["choices"][0]["message"].get("tool_calls"), "it called a tool")


@table.check("tool_choice: the name of no tool", "a refusal")
def tool_missing(client: Client) -> None:
    wanted = {"type": "function", "function": {"name": "no_such_tool"}}
    refused(client.post(PATH, body(client, tools=[TOOL], tool_choice=wanted)), names="no_such_tool")


@table.check("a history with a call and its result", "an answer")
def tool_result(client: Client) -> None:
    call = {
        "id": "call_abc123def",
        "type": "function",
        "function": {"name": "set_lamp", "arguments": '{"color": "red", "count": 1}'},
    }
    history = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]},
               {"role": "tool", "tool_call_id": "call_abc123def", "content": "the lamp is red"}]  # fmt: skip
    has(ask(client, messages=history, tools=[TOOL]), "choices")


@table.check(
    "stream: true", "the role once, content in each delta, one id, a chunk with finish_reason, no usage, [DONE]"
)
def streaming(client: Client) -> None:
    chunks = stream(client)
    expect(chunks and chunks[-1] == "[DONE]", "no [DONE] at the end")
    chunks = chunks[:-1]
    expect(len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1, "the id or created changes")
    expect(all(chunk["object"] == "chat.completion.chunk" for chunk in chunks), "another object")
    expect(not any(chunk.get("usage") for chunk in chunks), "usage that was not asked for")
    choices = [chunk["choices"][0] for chunk in chunks]
    expect(choices[0]["delta"].get("role") == "assistant", "no role in the first delta")
    reasons = [choice.get("finish_reason") for choice in choices]
    expect(reasons[-1] in ("stop", "length") and not any(reasons[:-1]), f"finish reasons {reasons}")
    expect(all("content" in c["delta"] for c in choices[:-1] if not _reasons(c["delta"])), "a delta without content")


def _reasons(delta: Any) -> bool:
    return bool(delta.get("reasoning_content") or delta.get("reasoning"))


@table.check("the same request streamed and whole", "the same text")
def streamed_is_whole(client: Client) -> None:
    pieces = [c["choices"][0]["delta"].get("content") or "" for c in stream(client) if c != "[DONE]" and c["choices"]]
    expect("".join(pieces) == text_of(ask(client)), f"streamed: {''.join(pieces)[:60]!r}")


@table.check("stream_options: include_usage", "a last chunk with usage and no choices")
def streamed_usage(client: Client) -> None:
    last = stream(client, stream_options={"include_usage": True})[-2]
    expect(last["choices"] == [] and last["usage"]["completion_tokens"] > 0, f"the last chunk is {str(last)[:100]}")


@table.check("a streamed call", "index, id and name first, then fragments that together are the arguments")
def streamed_call(client: Client) -> None:
    chunks = stream(client, tools=[TOOL], tool_choice="required", max_tokens=100)
    deltas = [c["choices"][0]["delta"] for c in chunks if c != "[DONE]" and c["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls") or []]
    expect(calls, "no tool call")
    first = calls[0]
    expect(first["index"] == 0 and first["id"] and first["function"]["name"] == "set_lamp", f"the first is {first}")
    own = [call for call in calls if call["index"] == 0]
    follows_schema("".join(call["function"].get("arguments") or "" for call in own))
    expect({call.get("id") for call in own} <= {first["id"], None}, "the id changes")


@table.check("the same long prompt twice", "usage that says how many tokens came from the cache")
def cached_tokens(client: Client) -> None:
    long = [{"role": "user", "content": "List every color that you know. " * 8}]
    first, second = (ask(client, messages=long, max_tokens=2)["usage"] for _ in range(2))
    details = second.get("prompt_tokens_details") or {}
    expect((details.get("cached_tokens") or 0) > 0, f"usage {second} after {first}")


@table.check("a client that hangs up in the middle of a stream", "the next answer is there")
def hang_up(client: Client) -> None:
    client.abandon(PATH, body(client, stream=True, max_tokens=400))
    expect(isinstance(text_of(ask(client, max_tokens=4)), str), "no answer")


@table.check("a Host header of another site", "403 or 421: no DNS rebinding")
def rebinding(client: Client) -> None:
    reply = client.get("/v1/models", {"Host": "attacker.example"})
    expect(reply.status in (400, 403, 421), reply.short())
