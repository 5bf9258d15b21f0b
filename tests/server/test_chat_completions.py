"""POST /v1/chat/completions on scripted answers: what a model is asked, and what the client gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.api import client_of
from support.fake_models import FakeModels, says

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.errors import (
    ContextOverflow,
    DoesNotFit,
    LicenseNotAccepted,
    LmsupplyError,
    ModelNotInstalled,
    QueueFull,
    QueueTimeout,
    UsageError,
    WorkerDied,
)
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

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}
SUB = {"type": "function", "function": {"name": "sub", "parameters": SCHEMA}}
USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=6, reasoning_tokens=2)
CALLS: tuple[GenerationEvent, ...] = (
    ToolCallDelta(0, "call_1", "add", ""),
    ToolCallDelta(0, "call_1", "add", '{"a":'),
    ToolCallDelta(0, "call_1", "add", " 1}"),
    ToolCall("call_1", "add", '{"a": 1}'),
    ToolCallDelta(1, "call_2", "sub", '{"a": 2}'),
    ToolCall("call_2", "sub", '{"a": 2}'),
    Finished("tool_calls", USAGE),
)


def answering(*events: GenerationEvent | LmsupplyError) -> FakeModels:
    return FakeModels(script=lambda request: events)


def post(models: FakeModels | None = None, **body: Any) -> dict[str, Any]:
    reply = client_of(models).post(PATH, json={"model": "tiny", "messages": HELLO} | body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def asked(**body: Any) -> AnswerRequest:
    """What the model was asked."""
    models = FakeModels()
    post(models, **body)
    return models.asked[0][1]


def data_of(text: str) -> list[str]:
    """What stands behind `data: ` in a stream."""
    blocks = [block for block in text.split("\n\n") if block]
    assert text.endswith("\n\n")
    assert all(block.startswith(("data: ", ": ")) and "\n" not in block for block in blocks)
    return [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]


def stream(models: FakeModels | None = None, **body: Any) -> list[dict[str, Any]]:
    """The chunks, without the last line."""
    reply = client_of(models).post(PATH, json={"model": "tiny", "messages": HELLO, "stream": True} | body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, last = data_of(reply.text)
    assert last == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def deltas(chunks: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    return [row["delta"] for chunk in chunks for row in chunk["choices"] if row["index"] == index]


# the answer as one object


def test_an_answer_has_what_the_sdk_requires() -> None:
    found = post(answering(TextDelta("Hel"), TextDelta("lo"), Finished("stop", USAGE)))
    assert found["id"].startswith("chatcmpl-")
    assert {name: found[name] for name in ("object", "created", "model")} == {
        "object": "chat.completion", "created": 1_700_000_000, "model": "tiny",
    }  # fmt: skip
    assert found["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert found["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 6,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


@pytest.mark.parametrize(
    ("reason", "said"), [("stop", "stop"), ("length", "length"), ("memory", "length"), ("tool_calls", "tool_calls")]
)
def test_finish_reasons(reason: Any, said: str) -> None:
    assert post(answering(Finished(reason)))["choices"][0]["finish_reason"] == said


def test_an_answer_that_the_server_cancelled_is_no_answer() -> None:
    reply = client_of(answering(TextDelta("Hel"), Finished("cancelled"))).post(
        PATH, json={"model": "tiny", "messages": HELLO}
    )
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "stopping"


def test_reasoning_is_apart_from_the_content() -> None:
    models = answering(ReasoningDelta("Well."), TextDelta("Yes."), Finished("stop"))
    message = post(models)["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Well.", "Yes.")


def test_text_that_turns_out_to_be_reasoning_is_reasoning() -> None:
    models = answering(TextDelta("Well."), TextWasReasoning(), TextDelta("Yes."), Finished("stop"))
    message = post(models)["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Well.", "Yes.")


def test_calls_are_whole_and_their_arguments_text() -> None:
    choice = post(answering(*CALLS), tools=[ADD, SUB])["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "call_2", "type": "function", "function": {"name": "sub", "arguments": '{"a": 2}'}},
    ]


def test_text_before_a_call_stays() -> None:
    message = post(answering(TextDelta("I add."), *CALLS), tools=[ADD, SUB])["choices"][0]["message"]
    assert message["content"] == "I add."


def test_logprobs_have_bytes_and_the_top_tokens() -> None:
    half = TokenLogprob("\ufffd", 8, -2.0)
    token = TokenLogprob("é", 7, -0.5, (TokenLogprob("é", 7, -0.5), half))
    models = answering(token, TextDelta("é"), Finished("stop"))
    found = post(models, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]
    assert found["content"] == [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [
                {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                {"token": "\ufffd", "logprob": -2.0, "bytes": None},
            ],
        }
    ]
    assert dict(models.asked[0][1].options) | {"logprobs": True, "top_logprobs": 2} == models.asked[0][1].options


def test_several_choices_differ_in_their_seeds_and_count_the_prompt_once() -> None:
    models = FakeModels(script=lambda request: says(f"seed {request.options['seed']}")(request))
    found = post(models, n=3, seed=5)
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in found["choices"]] == ["seed 5", "seed 6", "seed 7"]
    assert (found["usage"]["prompt_tokens"], found["usage"]["completion_tokens"]) == (7, 3)


def test_answers_name_what_they_came_from() -> None:
    first, second = post(), post()
    assert first["system_fingerprint"] == second["system_fingerprint"]
    assert "abababababab" in first["system_fingerprint"]
    assert first["id"] != second["id"]


# what the model is asked


def test_options_are_passed_on_and_the_models_own_hold_for_the_others() -> None:
    given = {
        "temperature": 0.5, "top_p": 0.8, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.2, "presence_penalty": 1,
        "frequency_penalty": -1, "seed": 9, "stop": ["a", "b"], "logit_bias": {"5": -100},
    }  # fmt: skip
    options = asked(**given, max_tokens=11).options
    assert options["logit_bias"] == ((5, -100.0),)
    assert options["stop"] == ("a", "b")
    assert {name: options[name] for name in given if name not in ("logit_bias", "stop")} == {
        name: value for name, value in given.items() if name not in ("logit_bias", "stop")
    }
    assert options["max_tokens"] == 11
    assert set(asked().options) == {"max_tokens", "logprobs"}


def test_without_a_limit_the_context_is_the_limit() -> None:
    assert asked().options["max_tokens"] > 1_000_000


@pytest.mark.parametrize(
    "given",
    [{"max_tokens": 5}, {"max_completion_tokens": 5}, {"max_tokens": 5, "max_completion_tokens": 5}],
)
def test_both_names_of_the_limit(given: dict[str, int]) -> None:
    assert asked(**given).options["max_tokens"] == 5


def test_stop_may_be_one_text() -> None:
    assert asked(stop="END").options["stop"] == ("END",)


def test_null_is_left_out() -> None:
    names = ("temperature", "top_p", "seed", "stop", "n", "tools", "tool_choice", "response_format", "stream", "logprobs",
             "stream_options", "max_tokens", "logit_bias", "reasoning_effort")  # fmt: skip
    assert asked(**dict.fromkeys(names)) == asked()


def test_roles_and_forms_of_content() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "reasoning_content": "thought", "reasoning": "thought"},
        {"role": "user", "content": "d", "name": "Ann"},
    ]
    assert asked(messages=messages).messages == (
        ChatMessage.system("Be brief."),
        ChatMessage.user("a\nb"),
        ChatMessage.assistant("c"),
        ChatMessage.user("d"),
    )


def test_calls_and_results_of_earlier_turns() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}, "index": 0}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "2", "name": "add"},
    ]
    assert asked(messages=messages).messages == (
        ChatMessage.user("hi"),
        ChatMessage.assistant("", tool_calls=[ToolCall("call_1", "add", '{"a": 1}')]),
        ChatMessage.tool("2", "call_1"),
    )


def test_a_message_of_ours_can_be_sent_back_as_it_is() -> None:
    message = post(answering(ReasoningDelta("Well."), TextDelta("I add."), *CALLS), tools=[ADD, SUB])["choices"][0][
        "message"
    ]
    sent = [*HELLO, message, *({"role": "tool", "tool_call_id": f"call_{n}", "content": "3"} for n in (1, 2))]
    found = asked(messages=sent, tools=[ADD, SUB]).messages
    assert [call.id for call in found[1].tool_calls] == ["call_1", "call_2"]


@pytest.mark.parametrize(
    ("format", "schema"),
    [
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}, SCHEMA),
        ({"type": "json_schema", "schema": SCHEMA}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, {"type": "object"}),
        ({"type": "json_schema"}, {"type": "object"}),
    ],
)
def test_forms_of_the_response_format(format: dict[str, Any], schema: dict[str, Any]) -> None:
    guidance = asked(response_format=format).guidance
    assert guidance is not None
    followed = json.loads(guidance.text)
    assert {name: followed[name] for name in schema} == schema


def test_the_format_text_asks_nothing() -> None:
    assert asked(response_format={"type": "text"}) == asked()


def test_a_format_and_tools_go_together() -> None:
    request = asked(response_format={"type": "json_object"}, tools=[ADD])
    assert request.guidance is not None
    assert [tool.name for tool in request.tools] == ["add"]


def test_tools_with_their_strictness() -> None:
    strict = {"type": "function", "function": ADD["function"] | {"strict": True}}  # type: ignore[operator]
    assert asked(tools=[strict]).tools[0].strict
    tool = asked(tools=[ADD]).tools[0]
    assert (tool.name, tool.description, tool.parameters, tool.strict) == ("add", "Adds.", SCHEMA, False)


@pytest.mark.parametrize("word", ["auto", "none", "required"])
def test_tool_choice_by_a_word(word: str) -> None:
    assert asked(tools=[ADD], tool_choice=word).tool_choice == word


def test_tool_choice_by_name_and_one_call_at_a_time() -> None:
    choice = {"type": "function", "function": {"name": "sub"}}
    request = asked(tools=[ADD, SUB], tool_choice=choice, parallel_tool_calls=False)
    assert request.tool_choice == choice
    assert not request.parallel_tool_calls


def test_only_allowed_tools_may_be_called() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "sub"}}]}
    request = asked(tools=[ADD, SUB], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool.name for tool in request.tools] == ["sub"]
    assert request.tool_choice == "required"


@pytest.mark.parametrize(
    ("given", "thinking"),
    [
        ({}, (None, None)),
        ({"reasoning_effort": "none"}, (False, None)),
        ({"reasoning_effort": "minimal"}, (None, "low")),
        ({"reasoning_effort": "medium"}, (None, "medium")),
        ({"reasoning_effort": "xhigh"}, (None, "high")),
        ({"chat_template_kwargs": {"enable_thinking": False}}, (False, None)),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "high"}, (True, "high")),
    ],
)
def test_thinking(given: dict[str, Any], thinking: tuple[bool | None, str | None]) -> None:
    request = asked(**given)
    assert (request.enable_thinking, request.reasoning_effort) == thinking


@pytest.mark.parametrize(
    "given",
    [
        {"user": "me"}, {"metadata": {"a": 1}}, {"store": True}, {"service_tier": "auto"}, {"safety_identifier": "x"},
        {"prompt_cache_key": "x"}, {"prompt_cache_retention": "24h"}, {"prompt_cache_options": {}},
        {"prediction": {"type": "content", "content": "x"}}, {"modalities": ["text"]}, {"verbosity": "medium"},
        {"functions": []}, {"function_call": None}, {"audio": None}, {"web_search_options": None},
        {"stream_options": {"include_usage": True}}, {"n": 1}, {"logprobs": False}, {"top_logprobs": 0},
    ],
)  # fmt: skip
def test_what_cannot_change_the_answer_does_not(given: dict[str, Any]) -> None:
    found = asked(**given)
    assert found.messages == (ChatMessage.user("hi"),)
    assert {name: value for name, value in found.options.items() if name not in ("max_tokens", "logprobs")} in (
        {}, {"top_logprobs": 0},
    )  # fmt: skip


def test_every_field_of_the_sdk_is_known() -> None:
    """Each one is enforced, ignored or refused on purpose."""
    completions = pytest.importorskip("openai.types.chat.completion_create_params")
    from lmsupply_cli.server.openai.chat_body import ChatBody

    known = set(ChatBody.model_fields) | ChatBody.no_effect | set(ChatBody.unsupported)
    assert set(completions.CompletionCreateParamsBase.__annotations__) - known == set()


# streams


def test_the_role_comes_once_and_every_delta_has_content() -> None:
    found = deltas(stream(answering(ReasoningDelta("Well."), TextDelta("Yes"), TextDelta("."), Finished("stop"))))
    assert found == [
        {"role": "assistant", "content": ""},
        {"content": "", "reasoning_content": "Well."},
        {"content": "Yes"},
        {"content": "."},
        {},
    ]


def test_one_id_one_time_and_a_chunk_of_its_own_for_the_end() -> None:
    chunks = stream(answering(TextDelta("Yes"), Finished("length")))
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "length"]
    assert chunks[-1]["choices"][0]["delta"] == {}


def test_usage_only_if_asked_and_behind_the_end() -> None:
    assert all("usage" not in chunk for chunk in stream())
    *chunks, last = stream(answering(TextDelta("Yes"), Finished("stop", USAGE)), stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 16
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}


def test_calls_begin_with_their_name_and_go_on_with_arguments() -> None:
    found = deltas(stream(answering(*CALLS), tools=[ADD, SUB]))
    calls = [delta["tool_calls"][0] for delta in found if "tool_calls" in delta]
    assert calls == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a":'}},
        {"index": 0, "function": {"arguments": " 1}"}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "sub", "arguments": '{"a": 2}'}},
    ]
    assert all("content" in delta for delta in found[:-1])


def test_text_that_turns_out_to_be_reasoning_is_sent_as_such() -> None:
    found = deltas(
        stream(answering(TextDelta("We"), TextDelta("ll."), TextWasReasoning(), TextDelta("Yes."), Finished("stop")))
    )
    assert found[3:] == [{"content": "", "reasoning_content": "Well."}, {"content": "Yes."}, {}]


def test_logprobs_come_with_the_text_of_their_tokens() -> None:
    events = (
        TokenLogprob("a", 1, -0.1), TokenLogprob("b", 2, -0.2), TextDelta("ab"), TokenLogprob("c", 3, -0.3), Finished("stop"),
    )  # fmt: skip
    chunks = stream(answering(*events), logprobs=True)
    tokens = [
        [token["token"] for token in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]]
        for chunk in chunks
    ]
    assert tokens == [[], ["a", "b"], ["c"]]


def test_several_choices_are_told_apart_by_their_index() -> None:
    models = FakeModels(script=lambda request: says(f"{request.options['seed']}", "!")(request))
    *chunks, last = stream(models, n=2, seed=1, stream_options={"include_usage": True})
    for index, text in enumerate(("1!", "2!")):
        found = deltas(chunks, index)
        assert "".join(delta.get("content", "") for delta in found) == text
        assert [delta for delta in found if "role" in delta] == [{"role": "assistant", "content": ""}]
    assert last["usage"]["completion_tokens"] == 4


def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    models = FakeModels(script=lambda request: (0.15, TextDelta("Yes"), Finished("stop")))
    body = {"model": "tiny", "messages": HELLO, "stream": True}
    text = client_of(models, ping_s=0.02).post(PATH, json=body).text
    assert ": ping\n\n" in text
    assert text.startswith("data: "), "the role is the first byte, before the prefill"
    assert ": ping" not in client_of(models, ping_s=0).post(PATH, json=body).text


def test_an_error_before_the_start_is_a_status() -> None:
    models = FakeModels(refuses=ContextOverflow("the prompt has 9,000 tokens"))
    reply = client_of(models).post(PATH, json={"model": "tiny", "messages": HELLO, "stream": True})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    assert "prompt is too long: the prompt has" in reply.json()["error"]["message"], "clients look for these words"


@pytest.mark.parametrize(
    ("error", "kind"), [(WorkerDied("it died"), "server_error"), (UsageError("no"), "invalid_request_error")]
)
def test_an_error_after_the_start_is_the_last_event(error: LmsupplyError, kind: str) -> None:
    reply = client_of(answering(TextDelta("Yes"), error)).post(
        PATH, json={"model": "tiny", "messages": HELLO, "stream": True}
    )
    *_, last = data_of(reply.text)
    found = json.loads(last)
    assert found["error"]["type"] == kind
    assert error.message in found["error"]["message"]
    assert set(found["error"]) == {"message", "type", "param", "code"}


def test_half_a_character_does_not_end_a_stream() -> None:
    found = deltas(stream(answering(TextDelta("a\ud800"), TextDelta("é\n\ndata: x"), Finished("stop"))))
    assert [delta["content"] for delta in found[1:-1]] == ["a?", "é\n\ndata: x"]


def test_all_answers_are_cancelled_when_one_of_them_fails() -> None:
    def script(request: AnswerRequest) -> tuple[Any, ...]:
        return (WorkerDied("it died"),) if request.options["seed"] == 2 else (TextDelta("a"), 60.0, Finished("stop"))

    models = FakeModels(script=script)
    reply = client_of(models).post(PATH, json={"model": "tiny", "messages": HELLO, "n": 2, "seed": 1, "stream": True})
    assert "it died" in reply.text
    assert models.answers[0].cancelled


# errors of the library


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextOverflow("long"), 400, "context_length_exceeded"),
        (UsageError("no"), 400, "invalid_value"),
        (ModelNotInstalled("gone"), 404, "model_not_found"),
        (LicenseNotAccepted("terms"), 403, "license_not_accepted"),
        (QueueFull("full"), 429, "queue_full"),
        (QueueTimeout("late"), 503, "queue_timeout"),
        (DoesNotFit("big"), 503, "does_not_fit"),
        (WorkerDied("died"), 502, "worker_died"),
    ],
)
def test_statuses(error: LmsupplyError, status: int, code: str) -> None:
    reply = client_of(FakeModels(refuses=error)).post(PATH, json={"model": "tiny", "messages": HELLO})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in reply.headers) == (status in (429, 503))


def test_an_error_names_the_field_that_the_core_blames() -> None:
    for error, body, param in [
        (UsageError("`logit_bias` names token 9").of("logit_bias"), {}, "logit_bias"),
        (UsageError("too deep"), {"response_format": {"type": "json_object"}}, "response_format"),
        (UsageError("no such keyword"), {"tools": [ADD]}, "tools"),
        (UsageError("the roles do not alternate"), {}, "messages"),
    ]:
        reply = client_of(FakeModels(refuses=error)).post(PATH, json={"model": "tiny", "messages": HELLO} | body)
        assert reply.json()["error"]["param"] == param


def test_a_model_that_is_not_here() -> None:
    reply = client_of().post(PATH, json={"model": "gpt-6", "messages": HELLO})
    assert reply.status_code == 404
    assert reply.json()["error"] == {
        "message": "no model 'gpt-6' (models: tiny)",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
