"""POST /v1/completions on scripted answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.api import client_of
from support.fake_models import FakeModels, says

from lmsupply_cli.errors import LmsupplyError, UsageError, WorkerDied
from lmsupply_cli.events import Finished, GenerationEvent, TextDelta, TokenLogprob, Usage

PATH = "/v1/completions"
A = TokenLogprob("ab", 1, -0.1, (TokenLogprob("ab", 1, -0.1), TokenLogprob("x", 9, -3.0)))
B = TokenLogprob("c", 2, -0.2)


def answering(*events: GenerationEvent | LmsupplyError) -> FakeModels:
    return FakeModels(script=lambda request: events)


def repeats() -> FakeModels:
    """Answers with what it was asked, and its seed."""
    return FakeModels(script=lambda r: says(f"<{r.text or r.ids}|{r.options.get('seed')}>")(r))


def post(models: FakeModels | None = None, **body: Any) -> dict[str, Any]:
    reply = client_of(models).post(PATH, json={"model": "tiny", "prompt": "To be"} | body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def stream(models: FakeModels | None = None, **body: Any) -> list[dict[str, Any]]:
    reply = client_of(models).post(PATH, json={"model": "tiny", "prompt": "To be", "stream": True} | body)
    assert reply.status_code == 200, reply.text
    *chunks, last = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line.startswith("data: ")]
    assert last == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def texts(found: dict[str, Any]) -> list[str]:
    assert [choice["index"] for choice in found["choices"]] == list(range(len(found["choices"])))
    return [choice["text"] for choice in found["choices"]]


def test_an_answer_has_what_the_sdk_requires() -> None:
    found = post(answering(TextDelta(" or not"), Finished("length", Usage(3, 1, 2))))
    assert found["id"].startswith("cmpl-")
    assert (found["object"], found["created"], found["model"]) == ("text_completion", 1_700_000_000, "tiny")
    assert found["choices"] == [{"index": 0, "text": " or not", "logprobs": None, "finish_reason": "length"}]
    assert (found["usage"]["prompt_tokens"], found["usage"]["total_tokens"]) == (3, 5)


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        ("a", ["<a|None>"]),
        (["a", "b"], ["<a|None>", "<b|None>"]),
        ([5, 6], ["<(5, 6)|None>"]),
        ([[5], [6, 7]], ["<(5,)|None>", "<(6, 7)|None>"]),
    ],
)
def test_forms_of_the_prompt(prompt: Any, seen: list[str]) -> None:
    assert texts(post(repeats(), prompt=prompt)) == seen


def test_the_choices_of_a_prompt_stand_together_and_count_it_once() -> None:
    found = post(repeats(), prompt=["a", "b"], n=2, seed=4, best_of=2)
    assert texts(found) == ["<a|4>", "<a|5>", "<b|4>", "<b|5>"]
    assert (found["usage"]["prompt_tokens"], found["usage"]["completion_tokens"]) == (14, 4)


def test_without_a_limit_sixteen_tokens_as_in_openais_api() -> None:
    models = FakeModels()
    post(models)
    post(models, max_tokens=50)
    assert [request.options["max_tokens"] for _, request, _ in models.asked] == [16, 50]


def test_a_suffix_is_passed_on_and_an_empty_prompt_may_have_one() -> None:
    models = FakeModels()
    post(models, prompt="", suffix="end")
    assert (models.asked[0][1].text, models.asked[0][1].suffix) == ("", "end")


def test_a_vocabulary_without_marks_for_a_suffix() -> None:
    models = FakeModels(refuses=UsageError("this model's vocabulary has no tokens to fill in the middle").of("suffix"))
    reply = client_of(models).post(PATH, json={"model": "tiny", "prompt": "a", "suffix": "b"})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "suffix"


def test_echo_puts_the_prompt_before_the_answer() -> None:
    assert texts(post(says_or(), echo=True, prompt=["a", "b"])) == ["aor", "bor"]
    chunks = stream(says_or(), echo=True)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "To beor"


def says_or() -> FakeModels:
    return FakeModels(script=says("or"))


def test_logprobs_are_four_lists() -> None:
    models = answering(A, TextDelta("ab"), B, TextDelta("c"), Finished("stop"))
    assert post(models, logprobs=2)["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": [{"ab": -0.1, "x": -3.0}, {}],
        "text_offset": [0, 2],
    }
    assert models.asked[0][1].options["top_logprobs"] == 2
    found = [chunk["choices"][0]["logprobs"] for chunk in stream(models, logprobs=2)]
    assert [row and row["text_offset"] for row in found] == [[0], [2], None]


def test_a_stream_ends_with_its_reason_and_the_usage_if_asked() -> None:
    chunks = stream()
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    *chunks, last = stream(prompt=["a", "b"], stream_options={"include_usage": True})
    assert {chunk["choices"][0]["index"] for chunk in chunks} == {0, 1}
    assert last["choices"] == []
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (14, 4)


def test_an_error_after_the_start_is_the_last_event() -> None:
    reply = client_of(answering(TextDelta("or"), WorkerDied("it died"))).post(
        PATH, json={"model": "tiny", "prompt": "To be", "stream": True}
    )
    last = [line for line in reply.text.split("\n\n") if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "worker_died"


def test_an_error_of_the_core_names_the_prompt() -> None:
    models = FakeModels(refuses=UsageError("token 9 is outside the vocabulary").of("ids"))
    assert client_of(models).post(PATH, json={"model": "tiny", "prompt": [9]}).json()["error"]["param"] == "prompt"


def test_every_field_of_the_sdk_is_known() -> None:
    completions = pytest.importorskip("openai.types.completion_create_params")
    from lmsupply_cli.server.openai.completions_body import CompletionBody

    known = set(CompletionBody.model_fields) | CompletionBody.no_effect | set(CompletionBody.unsupported)
    assert set(completions.CompletionCreateParamsBase.__annotations__) - known == set()
