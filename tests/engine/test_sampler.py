from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsupply_cli.engine.fake import FakeModel
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import GuidanceVocabulary, Matcher
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.sampler import Sampler, score_token

V = 1000
SIZES = [300, 5000]
SPREADS = st.sampled_from([0.01, 1.0, 10.0, 300.0])


@dataclass(frozen=True)
class Vocabulary:
    size: int
    tokens: list[bytes]
    compiled: GuidanceVocabulary


PLAIN = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


def sampler(seen: list[int] = [], **options: object) -> Sampler:  # noqa: B006
    made = Sampler(GenerationOptions(**(PLAIN | options)), vocabulary=V, eos_ids=[7])  # type: ignore[arg-type]
    made.read(seen)
    return made


def scores(**values: float) -> np.ndarray:
    logits = np.full(V, -5.0, dtype=np.float32)
    for key, value in values.items():
        logits[int(key[1:])] = value
    return logits


def draws(made: Sampler, logits: np.ndarray, count: int = 4000) -> dict[int, float]:
    ids, counts = np.unique([made.choose(logits) for _ in range(count)], return_counts=True)
    return dict(zip(ids.tolist(), (counts / count).tolist(), strict=True))


def allowed(logits: np.ndarray, **options: object) -> set[int]:
    return set(draws(sampler(seed=0, **options), logits))


def test_greedy_takes_the_likeliest() -> None:
    logits = scores(t3=2.0, t9=1.9)
    assert sampler(temperature=0).choose(logits) == 3
    assert sampler(do_sample=False).choose(logits) == 3


def test_the_draw_follows_the_distribution() -> None:
    """Pearson's chi-square over ten tokens: below 27.88 (9 degrees of freedom, p = 0.001)."""
    rng = np.random.default_rng(3)
    logits = np.full(V, -np.inf, dtype=np.float32)
    logits[:10] = rng.normal(size=10).astype(np.float32)
    expected = np.exp(logits[:10]) / np.exp(logits[:10]).sum()
    count = 20_000
    found = draws(sampler(seed=1), logits, count)
    observed = np.array([found.get(i, 0.0) for i in range(10)])
    assert count * ((observed - expected) ** 2 / expected).sum() < 27.88


def test_temperature_sharpens() -> None:
    logits = scores(t1=1.0, t2=0.0)
    cold, warm = draws(sampler(seed=0, temperature=0.2), logits), draws(sampler(seed=0, temperature=1.0), logits)
    assert cold[1] > 0.98 > warm[1]


def test_top_k_top_p_and_min_p_cut() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.1] + [1e-9] * (V - 4), dtype=np.float32))
    assert allowed(logits, top_k=2) == {0, 1}
    assert allowed(logits, top_k=1) == {0}
    assert allowed(logits, top_p=0.49) == {0}
    assert allowed(logits, top_p=0.6) == {0, 1}
    assert allowed(logits, top_p=0.85) == {0, 1, 2}
    assert allowed(logits, min_p=0.29) == {0, 1, 2}
    assert allowed(logits, top_k=3, top_p=0.9, min_p=0.4) == {0, 1}
    assert allowed(logits, top_p=0.0) == {0}


def test_top_p_over_a_flat_distribution_keeps_its_share() -> None:
    """More tokens than are sorted first: none is lost."""
    kept = allowed(np.zeros(V, dtype=np.float32), top_p=0.5)
    assert len(kept) > 480
    assert len(allowed(np.zeros(V, dtype=np.float32), top_k=700)) > 650


def test_the_repetition_penalty_pulls_down_both_signs() -> None:
    logits = scores(t3=2.0, t4=1.9)
    assert sampler([3], temperature=0, repetition_penalty=1.5).choose(logits) == 4
    negative = np.full(V, -1.0, dtype=np.float32)
    assert sampler([0], temperature=0, repetition_penalty=1.5).choose(negative) == 1
    assert logits[3] == 2.0  # the engine's own array is never changed


def test_the_end_of_earlier_turns_does_not_make_this_one_endless() -> None:
    assert sampler([7, 7], temperature=0, repetition_penalty=5.0).choose(scores(t7=2.0, t9=1.9)) == 7


def test_no_ngram_is_repeated() -> None:
    logits = scores(t5=3.0, t6=1.0)
    assert sampler([4, 5, 4], temperature=0, no_repeat_ngram_size=2).choose(logits) == 6
    assert sampler([4, 5, 3], temperature=0, no_repeat_ngram_size=2).choose(logits) == 5
    assert sampler([5], temperature=0, no_repeat_ngram_size=1).choose(logits) == 6
    assert sampler([5], temperature=0, no_repeat_ngram_size=4).choose(logits) == 5


def test_the_end_waits_for_the_minimum_length() -> None:
    logits = scores(t7=3.0, t6=1.0)
    made = sampler([1, 2, 3], temperature=0, min_length=3)
    for _ in range(3):
        assert made.choose(logits) == 6
        made.accept(6)
    assert made.choose(logits) == 7


def test_the_same_seed_draws_the_same() -> None:
    logits = np.zeros(V, dtype=np.float32)
    first, second = sampler(seed=5), sampler(seed=5)
    assert [first.choose(logits) for _ in range(20)] == [second.choose(logits) for _ in range(20)]
    other = sampler(seed=6)
    assert [other.choose(logits) for _ in range(20)] != [sampler(seed=5).choose(logits) for _ in range(20)]


@pytest.mark.parametrize("logits", [np.full(V, -np.inf, np.float32), np.full(V, np.nan, np.float32)])
def test_broken_logits_still_give_a_token(logits: np.ndarray) -> None:
    assert 0 <= sampler(seed=0).choose(logits) < V


def plainly_kept(logits: np.ndarray, *, top_k: int, top_p: float, min_p: float) -> set[int]:
    """By a sort of everything."""
    order = np.argsort(-logits, kind="stable")
    weights = np.exp((logits[order] - logits.max()).astype(np.float64))
    if top_k:
        order, weights = order[:top_k], weights[:top_k]
    before = np.cumsum(weights) - weights
    kept = (before < top_p * weights.sum()) & (weights >= min_p * weights[0])
    return {int(i) for i in order[kept]} if top_p < 1 else {int(i) for i in order[weights >= min_p * weights[0]]}


@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0, 40.0])
@pytest.mark.parametrize("size", [40, 1000, 20_000])
def test_what_is_kept_is_what_a_sort_of_everything_would_keep(size: int, spread: float) -> None:
    rng = np.random.default_rng(size)
    for top_k, top_p, min_p in itertools.product((0, 1, 30, 400), (0.0, 0.3, 0.9, 0.999, 1.0), (0.0, 0.05)):
        logits = (rng.normal(size=size) * spread).astype(np.float32)
        logits[rng.integers(0, size, 3)] = -np.inf
        made = Sampler(GenerationOptions(top_k=top_k, top_p=top_p, min_p=min_p), vocabulary=size, eos_ids=[])
        ids, weights = made._candidates(logits)
        expected = plainly_kept(logits, top_k=top_k, top_p=top_p, min_p=min_p)
        # a float sum may put the very last one on either side
        assert len(set(ids.tolist()) ^ expected) <= 1, (top_k, top_p, min_p)
        assert weights == pytest.approx(np.exp((logits[ids] - logits.max()).astype(np.float64)), rel=1e-4)


def test_ties_at_the_edge_of_top_k_do_not_make_it_larger() -> None:
    logits = np.zeros(20_000, dtype=np.float32)
    logits[5] = 1.0
    ids, _ = sampler(top_k=30)._candidates(logits)
    assert len(ids) == 30
    assert 5 in ids


def test_every_end_of_a_model_is_allowed_where_a_guidance_is_done() -> None:
    for temperature in (0.0, 0.8):
        options = GenerationOptions(temperature=temperature, seed=1)
        model = FakeModel(eos_ids=(7, 9))
        made = Sampler(options, vocabulary=300, eos_ids=[7, 9], matcher=model.new_matcher(Guidance.regex("ab?")))
        wished = np.full(300, -5.0, dtype=np.float32)
        wished[[9, 3]] = 8.0, 1.0
        assert made.choose(wished) == ord("a"), "there is nothing to end yet"
        made.accept(ord("a"))
        assert made.choose(wished) == 9


@pytest.mark.parametrize("temperature", [1e-7, 1e-38, 1e-300, 5e-324])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_temperature_next_to_nothing_is_greedy(temperature: float, scale: float) -> None:
    logits = np.float32([1, 3, 2, 3.00001]) * np.float32(scale)
    options = GenerationOptions(temperature=temperature, repetition_penalty=1.0, seed=1)
    assert options.greedy
    sampler = Sampler(options, vocabulary=4, eos_ids=())
    assert {sampler.choose(logits) for _ in range(20)} == {3}


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.5])
def test_scores_at_the_ends_of_float_are_out_of_the_question_without_a_warning(temperature: float) -> None:
    least = np.finfo(np.float32).min
    logits = np.float32([least, 1, least, -np.inf])
    for options in ({}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0, "min_p": 0.1}):
        sampler = Sampler(GenerationOptions(temperature=temperature, **options), vocabulary=4, eos_ids=())  # type: ignore[arg-type]
        sampler.read([0, 2, 3])
        assert {sampler.choose(logits) for _ in range(20)} == {1}


@pytest.fixture(scope="module")
def vocabularies() -> dict[int, Vocabulary]:
    return {size: vocabulary(size) for size in SIZES}


PIECES = [bytes([byte]) for byte in range(256)] + [
    piece.encode()
    for piece in ("no", "yes", "true", "false", '{"', '":', '",', "}", "aa", "ab", "[", "],[", "é", "日本")
]


def vocabulary(size: int) -> Vocabulary:
    """The bytes, some words, then longer and longer runs of letters; the last two tokens end an answer."""
    draw = random.Random(size)
    tokens = [*PIECES]
    while len(tokens) < size - 2:
        tokens.append("".join(draw.choices("abcdeé 01", k=draw.randint(2, 9))).encode())

    class Tokens:
        def encode(self, text: str) -> list[int]:
            return list(text.encode())

        def token_bytes(self, token: int) -> bytes | None:
            return tokens[token] if token < size - 2 else None

    return Vocabulary(size, tokens, GuidanceVocabulary(size, Tokens(), {size - 2: "<end>", size - 1: "<stop>"}))


GUIDANCES = [
    Guidance.regex("(yes|no)"),
    Guidance.regex("[a-e]{2,9}"),
    Guidance.regex(r"(aé|日本)+ ?[01]*"),
    Guidance.json_schema({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}),
    Guidance.json_schema({"type": "array", "items": {"enum": ["ab", "no"]}, "maxItems": 3}),
    Guidance.grammar('start: "a" start "b" | "ab"'),
]


@settings(max_examples=200, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    guidance=st.sampled_from(GUIDANCES),
    seed=st.integers(0, 2**32),
    broken=st.sampled_from([0.0, 0.3, 0.97, 1.0]),
    options=st.fixed_dictionaries(
        {
            "temperature": st.sampled_from([0.0, 0.5, 1.0, 50.0]),
            "top_k": st.sampled_from([0, 1, 40]),
            "top_p": st.sampled_from([0.0, 0.5, 0.95, 1.0]),
            "min_p": st.sampled_from([0.0, 0.1, 1.0]),
            "repetition_penalty": st.sampled_from([None, 1.0, 1.5, 0.5]),
            "presence_penalty": st.sampled_from([0.0, 2.0]),
            "no_repeat_ngram_size": st.sampled_from([0, 1, 2]),
            "min_length": st.sampled_from([0, 5]),
            "logit_bias": st.sampled_from([{}, {0: 100, 97: -100}]),
        }
    ),
)
def test_with_a_guidance_no_forbidden_token_is_ever_chosen(
    vocabularies: dict[int, Vocabulary],
    size: int,
    guidance: Guidance,
    seed: int,
    broken: float,
    options: dict[str, Any],
) -> None:
    """Whatever the scores: some, most or all of them are no numbers."""
    chosen, rng = vocabularies[size], np.random.default_rng(seed)
    ends = (size - 2, size - 1)
    said = b""
    matcher = Matcher(guidance, chosen.compiled)
    made = Sampler(GenerationOptions(seed=seed, **options), vocabulary=size, eos_ids=ends, matcher=matcher)
    made.read([97, 98, 97, 98])
    for _ in range(12):
        logits = (rng.normal(size=size) * 10).astype(np.float32)
        for value in (-np.inf, np.nan):
            logits[rng.random(size) < broken] = value
        allowed = matcher.allowed(ends)
        token = made.choose(logits)
        assert allowed[token]
        if token in ends:
            assert matcher.complete
            assert matcher.accepts(said.decode())
            return
        said += chosen.tokens[token]
        made.accept(token)


@settings(max_examples=200, deadline=None)
@given(size=st.sampled_from([20, 300, 5000]), top=st.integers(0, 20), seed=st.integers(0, 2**32), spread=SPREADS)
def test_log_probabilities_are_the_log_softmax_of_the_scores(size: int, top: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=size) * spread).astype(np.float32)
    logits[rng.random(size) < 0.1] = -np.inf
    token = int(rng.choice(np.flatnonzero(np.isfinite(logits)))) if np.isfinite(logits).any() else 0
    logits[token] = 1.5
    wide = logits.astype(np.float64)
    expected = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    found = score_token(logits, token, top)
    assert found.token == token
    assert found.logprob == pytest.approx(expected[token], abs=1e-5, rel=1e-5)
    assert len(found.top) == top
    assert [logprob for _, logprob in found.top] == pytest.approx(np.sort(expected)[::-1][:top], abs=1e-5, rel=1e-5)
    assert [logprob for _, logprob in found.top] == pytest.approx(
        [expected[one] for one, _ in found.top], abs=1e-5, rel=1e-5
    )
    assert len({one for one, _ in found.top}) == top


def test_log_probabilities_are_those_before_any_rule_or_temperature() -> None:
    logits = scores(t3=2.0, t9=1.9)
    made = sampler([3], temperature=0, repetition_penalty=5.0, logprobs=True, top_logprobs=2)
    assert made.choose(logits) == 9
    assert made.logprobs == score_token(logits, 9, 2)
    assert [token for token, _ in made.logprobs.top] == [3, 9]
    assert sampler().logprobs is None
