"""Answers that outgrow their first cache: the same text, and what ends them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli import load
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.formats.families import ChatML
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.fake import FakeModel, replies
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.events import Finished, Notice
from lmsupply_cli.generation import generator as generators
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import ROOM_TOKENS, GeneratorLimits, TextGenerator
from lmsupply_cli.memory.budget import MemoryBudget
from lmsupply_cli.memory.shape import MemoryShape

MODELS = Path(__file__).parent.parent / "models"
LONG = "abcdefghij" * 900
CONTEXT = 12_000
SHAPE = MemoryShape(1, 1, 1, 1, 300, CONTEXT, cache_number_bytes=500, file_bytes=1)  # 1,000 bytes a token


def generator(text: str = LONG, *, max_tokens: int = CONTEXT, **limits: object) -> TextGenerator:
    model = FakeModel(replies(text), context_length=CONTEXT)
    info = ModelInfo("fake", None, UNKNOWN_LICENSE, "cpu", 1, CONTEXT)
    options = GenerationOptions(temperature=0, max_tokens=max_tokens)
    return TextGenerator(model, ChatML(), info, options=options, limits=GeneratorLimits(**limits))  # type: ignore[arg-type]


def capacity(model: TextGenerator) -> int:
    assert model.cache._decoder is not None
    return model.cache._decoder.capacity_tokens


def test_an_answer_without_a_limit_begins_with_a_small_cache() -> None:
    with generator("short") as model:
        usage = model.generate("x").usage
        assert capacity(model) == usage.prompt_tokens + ROOM_TOKENS
    with generator("short", reserve_tokens=5000) as model:
        model.generate("x")
        assert capacity(model) == 5000, "a chat's own is kept"


@pytest.mark.parametrize("options", [{"max_tokens": 3000}, {"max_tokens": CONTEXT, "num_beams": 2}])
def test_a_limited_answer_has_its_whole_cache_at_once(options: dict[str, int]) -> None:
    with generator("short") as model:
        usage = model.generate("x", **options).usage  # type: ignore[arg-type]
        assert capacity(model) == min(usage.prompt_tokens + options["max_tokens"], CONTEXT)


def test_a_long_answer_is_whole_and_is_cached() -> None:
    with generator() as model:
        answer = model.generate("x")
        assert (answer.text, answer.finish_reason, answer.cut_by) == (LONG, "stop", None)
        assert len(LONG) < capacity(model) <= CONTEXT
        assert answer.usage.cached_tokens == 0
        assert model.cached_tokens >= len(LONG)


def test_an_answer_that_fills_the_context_is_cut_there() -> None:
    with generator("a" * 2 * CONTEXT) as model:
        answer = model.generate("x")
        assert (answer.finish_reason, answer.cut_by) == ("length", "context")
        assert answer.usage.prompt_tokens + answer.usage.completion_tokens == CONTEXT


def test_a_context_that_was_made_smaller_limits_the_next_answer() -> None:
    with generator() as model:
        model.generate("x")
        model.resize_context(100)
        answer = model.generate("x")
        assert answer.usage.prompt_tokens + answer.usage.completion_tokens == 100
        assert answer.cut_by == "context"


def budgeted(limit: int) -> TextGenerator:
    held = [0]
    budget = MemoryBudget(limit, SHAPE, lambda: 1000 * held[0], before=0.9, critical=1.0, warning=1.0)
    model = generator(budget=budget, memory_shape=SHAPE)
    new_decoder = model.model.new_decoder

    def counted(*, capacity_tokens: int, share_buffer: bool | None = None) -> object:
        made = new_decoder(capacity_tokens=capacity_tokens)
        close = made.close

        def closed() -> None:
            close()
            held[0] = 0

        held[0], made.close = capacity_tokens, closed  # type: ignore[method-assign]
        return made

    model.model.new_decoder = counted  # type: ignore[method-assign, assignment]
    return model


def test_a_cache_grows_by_less_where_the_memory_ends() -> None:
    with budgeted(5_600_000) as model:  # 5,040 tokens may be used: twice the first cache, but not three times
        answer = model.generate("x")
        assert answer.finish_reason == "memory"
        first = answer.usage.prompt_tokens + ROOM_TOKENS
        assert answer.usage.prompt_tokens + answer.usage.completion_tokens == 2 * first


def test_the_memory_limit_ends_an_answer_that_cannot_grow() -> None:
    with budgeted(4_000_000) as model:
        *_, said, finished = model.stream("x")
        assert isinstance(said, Notice)
        assert isinstance(finished, Finished)
        assert (said.code, finished.finish_reason, finished.cut_by) == ("memory_critical", "memory", None)
        assert said.text.endswith("of the limit may be used: the answer ends here")
        assert finished.usage.completion_tokens == ROOM_TOKENS
        assert model.generate("y", max_tokens=3).text == "abc", "the next answer works"


def test_a_long_answer_can_be_cancelled_while_it_grows() -> None:
    with generator() as model:
        cancel, events = CancelToken(), []
        for event in model.stream("x", cancel=cancel):
            events.append(event)
            if len(events) == ROOM_TOKENS:
                cancel.cancel()
        assert isinstance(events[-1], Finished)
        assert events[-1].finish_reason == "cancelled"
        assert model.generate("y", max_tokens=3).text == "abc"


@pytest.mark.parametrize("speculative", ["off", "ngram", "draft"])
@pytest.mark.parametrize("name", ["llama-fp32", "longrope-fp32"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_in_fp32_the_text_does_not_depend_on_growing(
    name: str, speculative: str, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = MODELS / name
    speculative = f"draft:{folder}" if speculative == "draft" else speculative
    asked = ["one two three", "one two three, and one two four"]

    def answers() -> list[str]:
        with load(folder, speculative=speculative, context=200) as model:
            return [
                model.generate(text, temperature=temperature, seed=3, max_tokens=200, min_length=120).text
                for text in asked
            ]

    large = answers()
    monkeypatch.setattr(generators, "ROOM_TOKENS", 10)
    assert answers() == large
