"""Served answers on the real engine, in this process: batches, limits of memory, and cancels among them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.scheduler_run import Said, Worker, answers, chat, in_turn

from lmsupply_cli import DoesNotFit, Guidance, MemoryOptions, TextGenerator, load
from lmsupply_cli.events import Finished, Notice, TextDelta
from lmsupply_cli.serving.frames import Happened

MODELS = Path(__file__).parent.parent / "models"
QUESTIONS = ("hello", "How do I download a model?", "thanks", "How do I list my models, please? I would like to know.")
GREEDY: dict[str, Any] = {"temperature": 0}


@pytest.fixture(scope="module")
def model(guide: Path) -> Iterator[TextGenerator]:
    with load(guide) as made:
        yield made


def batches_of(model: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each batch has from now on."""
    rows, real = list[int](), model.model.new_batch

    def noted(prompts: Any, **more: Any) -> Any:
        rows.append(len(prompts))
        return real(prompts, **more)

    monkeypatch.setattr(model.model, "new_batch", noted)
    return rows


def same(said: Said, model: TextGenerator, options: dict[str, Any], **more: Any) -> None:
    """Each answer is what the model says alone."""
    for id, question in enumerate(QUESTIONS, start=1):
        here, found = model.generate(question, **more, **options), said.answer(id)
        assert (found.text, found.finish_reason, found.complete) == (here.text, here.finish_reason, here.complete)
        assert found.usage.completion_tokens == here.usage.completion_tokens
        assert [one.token for one in found.logprobs] == [one.token for one in here.logprobs]


@pytest.mark.parametrize(
    "options", [GREEDY, {"temperature": 0.8, "seed": 3, "top_logprobs": 1}, GREEDY | {"stop": ("pull", "!")}]
)
def test_a_batch_says_what_each_says_alone(
    model: TextGenerator, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    rows = batches_of(model, monkeypatch)
    said = answers(model, *(chat(question, options=options) for question in QUESTIONS))
    assert rows == [4]
    same(said, model, options)


def test_guided_rows(model: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = batches_of(model, monkeypatch)
    guidance = Guidance.json_schema({"type": "object", "properties": {"a": {"enum": ["x", "yy"]}}})
    said = answers(model, *(chat(question, options=GREEDY, guidance=guidance) for question in QUESTIONS))
    assert rows == [4]
    same(said, model, GREEDY, guidance=guidance)


def test_cancels_in_a_batch_leave_the_others_as_they_are(model: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = batches_of(model, monkeypatch)
    worker = Worker(model)
    for id, question in enumerate(QUESTIONS, start=1):
        worker.ask(id, chat(question, options=GREEDY))
    steps = {1: 3, 4: 6}  # how many pieces of text they may have

    def react(frame: Any) -> None:
        if isinstance(frame, Happened) and (most := steps.get(frame.id)):
            texts = [event for event in worker.said.events[frame.id] if isinstance(event, TextDelta)]
            if len(texts) == most:
                worker.cancel(frame.id)

    said = worker.run(react)
    assert rows == [4]
    for id, question in enumerate(QUESTIONS, start=1):
        here, found = model.generate(question, **GREEDY), said.answer(id)
        if id in steps:
            assert found.finish_reason == "cancelled"
            assert len([event for event in said.events[id] if isinstance(event, TextDelta)]) == steps[id]
            assert here.text.startswith(found.text)
        else:
            assert (found.text, found.finish_reason) == (here.text, here.finish_reason)


def test_turns_of_single_answers_change_nothing(model: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.model, "batching_blocker", lambda: "not now")
    said = answers(model, *(chat(question, options=GREEDY) for question in QUESTIONS), slots=4)
    assert len(set(said.order()[:8])) == 4
    same(said, model, GREEDY)


def test_a_cached_conversation_says_what_a_fresh_one_says(model: TextGenerator) -> None:
    first = "How do I download a model? " * 6
    talk = (first, "Run `lmsupply pull phi-4-mini`.", "and how do I list them?")
    said = in_turn(model, chat(first, options=GREEDY), chat(*talk, options=GREEDY))
    fresh = answers(model, chat(*talk, options=GREEDY))
    assert said.answer(2).usage.cached_tokens > 0 == fresh.answer(1).usage.cached_tokens
    assert said.answer(2).text == fresh.answer(1).text


def test_a_cache_beyond_the_memory_limit_is_refused_before_the_answer_begins(guide: Path) -> None:
    with load(guide, memory_limit=MemoryOptions("8GB", before=1e-6)) as model:
        said = answers(model, *(chat(question, options=GREEDY) for question in QUESTIONS))
    assert said.failed.keys() == {1, 2, 3, 4}
    assert all(isinstance(error, DoesNotFit) for error in said.failed.values())
    assert said.accepted == {}


@pytest.mark.parametrize("count", [1, 3])
def test_answers_end_where_the_memory_runs_short(guide: Path, count: int) -> None:
    with load(guide, memory_limit=MemoryOptions("8GB", warning=1e-7, critical=1e-6)) as model:
        options = {"temperature": 0, "max_tokens": 40, "min_length": 40}
        said = answers(model, *(chat("hello" * id, options=options) for id in range(1, count + 1)))
    for id in range(1, count + 1):
        assert said.answer(id).finish_reason == "memory"
        assert {event.code for event in said.events[id] if isinstance(event, Notice)} == {"memory_critical"}


def test_a_model_that_takes_no_batches_answers_all_the_same() -> None:
    with load(MODELS / "gemma2") as model:
        assert model.model.batching_blocker()
        options = {"temperature": 0, "max_tokens": 5}
        said = answers(model, *(chat(text, options=options) for text in "abc"))
        assert all(isinstance(said.events[id][-1], Finished) for id in (1, 2, 3))
        assert [said.answer(id).text for id in (1, 2, 3)] == [model.generate(text, **options).text for text in "abc"]
