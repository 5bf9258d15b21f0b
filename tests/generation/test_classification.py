"""TextGenerator.classify: choices as tokens, the prompt cache, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmsupply_cli import (
    ChatMessage,
    DoesNotFit,
    GenerationOptions,
    Guidance,
    LmsupplyError,
    TextGenerator,
    UsageError,
    load,
)
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.formats.families import ChatML
from lmsupply_cli.engine.fake import FakeModel, replies
from lmsupply_cli.engine.prefill import LEAST
from lmsupply_cli.events import Usage
from lmsupply_cli.generation.classification import continuation_ids, make_classification
from lmsupply_cli.generation.completion import ModelInfo

MODELS = Path(__file__).parent.parent / "models"
CHOICES = ["Run", "Hello", "You are welcome!", "in", "invalid"]
QUESTION = "How do I download a model?"


@pytest.fixture(scope="module")
def model() -> Iterator[TextGenerator]:
    """Unlike the guide it is fp32: how many tokens are read at once makes no difference."""
    with load(MODELS / "llama-fp32", options=GenerationOptions(max_tokens=8)) as made:
        yield made


def logprobs(model: TextGenerator, prompt: str = QUESTION, choices: list[str] | None = None) -> list[float]:
    return [choice.logprob for choice in model.classify(prompt, choices or CHOICES).choices]


def test_the_guide_knows_what_it_says() -> None:
    with load("guide") as guide:
        found = guide.classify(QUESTION, CHOICES)
        answer = guide.classify([{"role": "user", "content": QUESTION}], ["Run `lmsupply pull phi-4-mini`.", "Hello"])
    assert (str(found), found.best) == ("Run", "Run")
    assert [choice.text for choice in found.choices] == CHOICES
    assert found.ranked[0].text == "Run"
    assert found.choices[0].probability > 0.9
    assert answer.choices[0].probability > 0.9
    assert answer.choices[0].tokens > 3


def test_the_numbers_belong_together(model: TextGenerator) -> None:
    found = model.classify(QUESTION, CHOICES)
    assert sum(choice.share for choice in found.choices) == pytest.approx(1)
    total = sum(choice.probability for choice in found.choices)
    for choice in found.choices:
        assert choice.probability == math.exp(choice.logprob)
        assert choice.share == pytest.approx(choice.probability / total)
    assert found.best == max(found.choices, key=lambda choice: choice.logprob).text


def test_all_next_tokens_together_are_certain(model: TextGenerator) -> None:
    """One token each: their probabilities are those of a distribution."""
    letters = [chr(code) for code in range(33, 127)]
    found = model.classify("x", letters, raw=True)
    assert {choice.tokens for choice in found.choices} == {1}
    assert 0 < sum(choice.probability for choice in found.choices) < 1


def test_the_prompt_cache_is_used_left_true_and_changes_nothing(model: TextGenerator) -> None:
    model.clear_cache()
    fresh = model.classify(QUESTION, CHOICES)
    cached = model.classify(QUESTION, CHOICES)
    assert fresh.usage == Usage(fresh.usage.prompt_tokens, 0)
    assert cached.usage == Usage(fresh.usage.prompt_tokens, fresh.usage.prompt_tokens - LEAST)
    expected = [choice.logprob for choice in fresh.choices]
    assert [choice.logprob for choice in cached.choices] == pytest.approx(expected, abs=1e-4)
    answer = str(model.generate(QUESTION, temperature=0))
    assert logprobs(model) == pytest.approx(expected, abs=1e-4)
    assert str(model.generate(QUESTION, temperature=0)) == answer
    model.clear_cache()
    assert str(model.generate(QUESTION, temperature=0)) == answer


def test_the_order_and_the_other_choices_change_nothing(model: TextGenerator) -> None:
    expected = logprobs(model)
    assert logprobs(model, choices=CHOICES[::-1]) == pytest.approx(expected[::-1], abs=1e-4)
    assert logprobs(model, choices=["in", "invalid"]) == pytest.approx(expected[3:], abs=1e-4)


def test_neither_options_nor_a_guidance_play_a_part(model: TextGenerator) -> None:
    expected = logprobs(model)
    options = GenerationOptions(temperature=3, top_k=1, repetition_penalty=9)
    with load(MODELS / "llama-fp32", options=options, guidance=Guidance.regex("[0-9]+")) as other:
        assert logprobs(other) == pytest.approx(expected, abs=1e-4)
        other.generate("x", max_tokens=3)
        assert logprobs(other) == pytest.approx(expected, abs=1e-4)


def test_in_the_middle_of_a_chat_the_cache_still_serves_it(model: TextGenerator) -> None:
    model.classify("word " * 100, CHOICES)  # the cache has room for what follows
    talk = [ChatMessage.user(QUESTION)]
    talk.append(ChatMessage.assistant(str(model.generate_chat(talk, temperature=0))))
    talk.append(ChatMessage.user("x"))
    found = model.classify(talk, CHOICES)
    assert found.usage.cached_tokens > len(model.prompter.chat(talk[:1]).ids)
    assert model.generate_chat(talk).usage.cached_tokens >= found.usage.prompt_tokens - LEAST


def test_an_answer_that_was_begun_is_given_up(model: TextGenerator) -> None:
    stream = model.stream(QUESTION)
    next(stream)
    model.classify("x", CHOICES)
    with pytest.raises(LmsupplyError, match="abandoned"):
        list(stream)


def test_choices_are_tokens_of_the_whole_text(model: TextGenerator) -> None:
    for prompt in (
        model.prompter.raw("The sky is"),
        model.prompter.raw("The sky is "),
        model.prompter.chat([ChatMessage.user("x")]),
    ):
        for text in (" the quick", "the", "hello world", "ß", " ", "é\n"):
            ids = continuation_ids(model.model, prompt, text)
            whole = model.model.encode(prompt.text + text)
            if model.model.encode(prompt.text) == whole[: len(whole) - len(ids)]:
                assert whole[len(whole) - len(ids) :] == ids
            assert model.model.decode([*prompt.ids, *ids]).endswith(text)


def test_control_strings_in_a_choice_stay_text(model: TextGenerator) -> None:
    control = {token for text in model.prompter.format.control for token in model.model.encode(text)}
    for prompt in (model.prompter.raw("x"), model.prompter.chat([ChatMessage.user("<|im_end|> x")])):
        for text in (*model.prompter.format.control, "a<|im_end|>b"):
            ids = continuation_ids(model.model, prompt, text)
            assert not control & set(ids)
            assert model.model.decode(ids) == text


def test_bad_choices_are_refused() -> None:
    info = ModelInfo("fake", None, UNKNOWN_LICENSE, "cpu", 1, 60)
    fake = FakeModel(replies("yes", "yes"), context_length=60)
    with TextGenerator(fake, ChatML(), info) as model:
        for choices, why in (
            ([], "there must be at least two choices"),
            (["a"], "there must be at least two choices"),
            (["a", ""], "choice 2 is empty"),
            (["a", "b", "a"], "the choice 'a' is given twice"),
            ("ab", "choices must be a list of strings"),
            (["a", 1], "choices must be a list of strings"),
            (["a", "b\0"], "NUL"),
        ):
            with pytest.raises(UsageError, match=why):
                model.classify("x", choices)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="not a chat"):
            model.classify([ChatMessage.user("x")], ["a", "b"], raw=True)
        with pytest.raises(DoesNotFit, match="the longest choice 41"):
            model.classify("x", ["a", "b" * 41])
        assert model.cached_tokens == 0
        found = model.classify("x", ["yes", "no", "yet"])
    assert found.best == "yes"
    assert found.choices[2].share < found.choices[0].share / 1000


def test_choices_without_any_probability() -> None:
    found = make_classification(["a", "b"], [[1], [2]], [-math.inf, -math.inf], Usage(1))
    assert [(choice.probability, choice.share) for choice in found.choices] == [(0, 0), (0, 0)]
    found = make_classification(["a", "b"], [[1], [2]], [-math.inf, -900.0], Usage(1))
    assert (found.best, [choice.share for choice in found.choices]) == ("b", [0, 1])
