"""Each rule equals its formula, written out token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsupply_cli.engine.fake import EOS, FakeModel
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.processors import LogitsProcessor, make_processors

SIZE, ENDS = 12, (10, 11)
NEVER = -np.inf
Floats = npt.NDArray[np.float32]
IDS = st.lists(st.integers(0, SIZE - 1), max_size=10)
ANSWER = st.lists(st.integers(0, 9), max_size=10)
SCORES = st.lists(st.floats(-30, 30, width=32), min_size=SIZE, max_size=SIZE)


def processors(prompt: Sequence[int], answer: Sequence[int], **options: Any) -> list[LogitsProcessor]:
    made = make_processors(
        GenerationOptions(**({"repetition_penalty": 1.0} | options)), vocabulary=SIZE, ends=list(ENDS)
    )
    for processor in made:
        processor.read(prompt)
        for token in answer:
            processor.accept(token)
    return made


def applied(scores: Sequence[float], prompt: Sequence[int], answer: Sequence[int], **options: Any) -> list[float]:
    found: Floats = np.float32(scores)
    for processor in processors(prompt, answer, **options):
        processor.apply(found)
    return found.tolist()  # type: ignore[no-any-return]


def test_options_that_ask_for_nothing_make_no_rule() -> None:
    assert processors([1, 2], [3]) == []
    assert processors([1, 2], [3], repetition_penalty=None, temperature=0) == []


@given(SCORES, IDS, ANSWER, st.sampled_from([0.5, 1.1, 3.0]))
def test_the_repetition_penalty(scores: list[float], prompt: list[int], answer: list[int], penalty: float) -> None:
    """Positive scores of what was there are divided, negative ones multiplied; ends are exempt."""
    there = (set(prompt) | set(answer)) - set(ENDS)
    expected = [
        (score / penalty if score > 0 else score * penalty) if token in there else score
        for token, score in enumerate(scores)
    ]
    assert applied(scores, prompt, answer, repetition_penalty=penalty) == pytest.approx(expected, rel=1e-5)


@given(SCORES, IDS, ANSWER, st.sampled_from([-2.0, 0.0, 0.5, 2.0]), st.sampled_from([-1.0, 0.0, 0.25]))
def test_presence_and_frequency_count_on_the_answer_alone(
    scores: list[float], prompt: list[int], answer: list[int], presence: float, frequency: float
) -> None:
    expected = [
        score - presence * (token in answer) - frequency * answer.count(token) for token, score in enumerate(scores)
    ]
    found = applied(scores, prompt, answer, presence_penalty=presence, frequency_penalty=frequency)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(SCORES, IDS, ANSWER, st.integers(1, 4))
def test_no_run_of_tokens_comes_twice(scores: list[float], prompt: list[int], answer: list[int], size: int) -> None:
    tokens = [*prompt, *answer]
    runs = {tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)}
    repeats = {token for token in range(SIZE) if tuple([*tokens, token][-size:]) in runs and len(tokens) >= size - 1}
    expected = [NEVER if token in repeats else score for token, score in enumerate(scores)]
    if max(expected) == NEVER:
        expected = scores
    assert applied(scores, prompt, answer, no_repeat_ngram_size=size) == pytest.approx(expected, rel=1e-5)


@given(SCORES, IDS, ANSWER, st.integers(0, 12))
def test_the_end_waits_for_the_least_length_of_the_answer(
    scores: list[float], prompt: list[int], answer: list[int], least: int
) -> None:
    expected = [NEVER if token in ENDS and len(answer) < least else score for token, score in enumerate(scores)]
    assert applied(scores, prompt, answer, min_length=least) == pytest.approx(expected, rel=1e-5)


@given(SCORES, st.dictionaries(st.integers(0, SIZE - 1), st.floats(-100, 100), max_size=5))
def test_a_bias_is_added(scores: list[float], bias: dict[int, float]) -> None:
    expected = [score + bias.get(token, 0.0) for token, score in enumerate(scores)]
    assert applied(scores, [1], [2], logit_bias=bias) == pytest.approx(expected, rel=1e-5, abs=1e-4)


@given(
    SCORES,
    IDS,
    ANSWER,
    st.sets(st.integers(0, SIZE - 1)),
    st.integers(0, 3),
    st.integers(0, 12),
)
def test_a_rule_never_forbids_the_last_token_that_was_left(
    scores: list[float], prompt: list[int], answer: list[int], gone: set[int], size: int, least: int
) -> None:
    before = [NEVER if token in gone else score for token, score in enumerate(scores)]
    found = applied(before, prompt, answer, no_repeat_ngram_size=size, min_length=least)
    left = [token for token in range(SIZE) if found[token] > NEVER]
    assert all(found[token] == NEVER for token in gone)
    assert bool(left) == (len(gone) < SIZE)


def test_what_a_guidance_left_alone_is_not_forbidden_by_what_follows() -> None:
    """The mask comes first: a repeated token, or an end before the least length, is taken where nothing else may come."""
    model = FakeModel()
    matcher = model.new_matcher(Guidance.regex("aaa"))
    options = GenerationOptions(no_repeat_ngram_size=1, min_length=9, repetition_penalty=2.0, logit_bias={98: 100})
    made = make_processors(options, vocabulary=300, ends=[EOS], matcher=matcher)
    for processor in made:
        processor.read(b"aaaa")
    rng = np.random.default_rng(1)
    for expected in (ord("a"), ord("a"), ord("a"), EOS):
        scores = rng.normal(size=300).astype(np.float32)
        scores[ord("b")] = 100
        for processor in made:
            processor.apply(scores)
        assert np.flatnonzero(scores > NEVER).tolist() == [expected]
        for processor in made if expected != EOS else ():
            processor.accept(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["[a-c]{2,4}", "x|yy", "(é|日)+"]))
def test_a_mask_leaves_what_the_matcher_allows_and_nothing_else(seed: int, pattern: str) -> None:
    model, rng = FakeModel(), np.random.default_rng(seed)
    matcher = model.new_matcher(Guidance.regex(pattern))
    (mask,) = make_processors(GenerationOptions(), vocabulary=300, ends=[EOS], matcher=matcher)
    for _ in range(6):
        allowed = matcher.allowed([EOS])
        before = rng.normal(size=300).astype(np.float32)
        scores = before.copy()
        mask.apply(scores)
        assert (scores[allowed] == before[allowed]).all()
        assert (scores[~allowed] == NEVER).all()
        token = int(rng.choice(np.flatnonzero(allowed)))
        if token == EOS:
            return
        mask.accept(token)


def test_a_token_that_the_scores_rule_out_is_taken_where_the_guidance_leaves_no_other() -> None:
    for value in (NEVER, np.nan):
        matcher = FakeModel().new_matcher(Guidance.regex("a"))
        (mask,) = make_processors(GenerationOptions(), vocabulary=300, ends=[EOS], matcher=matcher)
        scores = np.full(300, value, dtype=np.float32)
        mask.apply(scores)
        assert int(scores.argmax()) == ord("a")
        assert np.isfinite(scores[ord("a")])
