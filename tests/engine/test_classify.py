"""Log probabilities of continuations are those that reading one token at a time gives."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsupply_cli.engine import genai
from lmsupply_cli.engine.base import Decoder, TextModel
from lmsupply_cli.engine.classify import plan_feeds, score_continuations
from lmsupply_cli.engine.fake import VOCABULARY, FakeDecoder, FakeModel
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import EngineOptions, GenaiModel
from lmsupply_cli.engine.prefill import LEAST, Run
from lmsupply_cli.errors import DoesNotFit, EngineError, UsageError

Logits = npt.NDArray[np.float32]
MODELS = Path(__file__).parent.parent / "models"


class VariedDecoder(FakeDecoder):
    """Scores that depend on every token. `narrow`: only those after the last one can be had."""

    narrow = False

    def logits(self) -> Logits:
        super().logits()
        return self.scores(self.tokens)

    def wide_logits(self, count: int) -> Logits:
        super().wide_logits(count)
        if self.narrow and count > 1:
            raise EngineError("the last one only")
        tokens = self.tokens
        return np.stack([self.scores(tokens[: len(tokens) - count + row + 1]) for row in range(count)])

    @staticmethod
    def scores(tokens: Sequence[int]) -> Logits:
        seed = random.Random(repr(tuple(tokens))).getrandbits(32)
        return np.random.default_rng(seed).normal(0, 4, VOCABULARY).astype(np.float32)


class NarrowDecoder(VariedDecoder):
    narrow = True


def brute_force(decoder: Decoder, ids: Sequence[int], continuation: Sequence[int]) -> float:
    """`decoder` is a fresh one."""
    for token in ids:
        decoder.append([token])
    total = 0.0
    for token in continuation:
        scores = decoder.logits().astype(np.float64)
        total += float(scores[token] - np.log(np.exp(scores - scores.max()).sum()) - scores.max())
        decoder.append([token])
    return total


TOKENS = st.lists(st.integers(1, 4), min_size=1, max_size=5)
CONTINUATIONS = st.lists(TOKENS, min_size=1, max_size=6, unique_by=tuple)


@settings(max_examples=150, deadline=None)
@given(ids=TOKENS, held=st.lists(st.integers(1, 4), max_size=8), continuations=CONTINUATIONS, narrow=st.booleans())
def test_they_equal_brute_force(ids: list[int], held: list[int], continuations: list[list[int]], narrow: bool) -> None:
    model, kind = FakeModel(), NarrowDecoder if narrow else VariedDecoder
    decoder = kind(model, 40)
    if held:
        decoder.append(held)
    found = score_continuations(decoder, ids, continuations)
    expected = [brute_force(VariedDecoder(model, 40), ids, one) for one in continuations]
    assert found == pytest.approx(expected, abs=1e-9)
    assert decoder.tokens[: len(ids)] == ids


@settings(max_examples=100, deadline=None)
@given(continuations=CONTINUATIONS)
def test_each_is_served_once_and_no_feed_begins_another(continuations: list[list[int]]) -> None:
    feeds = plan_feeds(continuations)
    assert sorted(index for feed in feeds for index in feed.serves) == list(range(len(continuations)))
    for feed in feeds:
        assert all(tuple(continuations[i][:-1]) == feed.tokens[: len(continuations[i]) - 1] for i in feed.serves)
        assert not any(o is not feed and o.tokens[: len(feed.tokens)] == feed.tokens for o in feeds)


def test_one_append_for_a_continuation_and_never_of_a_single_token() -> None:
    decoder = VariedDecoder(FakeModel(), 256)
    score_continuations(decoder, list(range(10, 30)), [[1], [2], [3, 4, 5], [3, 4], [6, 7], list(range(100))])
    assert decoder.appended[0] == 20
    again = LEAST - 1  # of the prompt, besides its last token
    # one that is long is read in even parts
    assert sorted(decoder.appended[1:]) == [2 + again, 3 + again, (100 + again) // 2, 52]


def test_what_does_not_fit_or_cannot_be_told_apart_is_refused_before_any_work() -> None:
    decoder = VariedDecoder(FakeModel(), 8)
    with pytest.raises(UsageError, match="choice 2 has no tokens"):
        score_continuations(decoder, [1, 2], [[1], []])
    with pytest.raises(UsageError, match="choices 1 and 3 have the same tokens"):
        score_continuations(decoder, [1, 2], [[1, 2], [2], [1, 2]])
    with pytest.raises(DoesNotFit, match="the prompt has 6 tokens and the longest choice 3, but the context has 8"):
        score_continuations(decoder, [1] * 6, [[1], [1, 2, 3]])
    assert decoder.appended == []
    assert len(score_continuations(decoder, [1] * 6, [[1], [1, 2]])) == 2


def test_scores_that_are_not_numbers_are_an_error() -> None:
    class Broken(FakeDecoder):
        def wide_logits(self, count: int) -> Logits:
            return np.full((count, VOCABULARY), np.nan, dtype=np.float32)

    with pytest.raises(EngineError, match="not finite numbers"):
        score_continuations(Broken(FakeModel(), 8), [1, 2], [[1], [2]])


@pytest.fixture(params=["llama-fp32", "longrope-fp32", "toy", "last", "restarting"])
def real(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextModel]:
    """`last` gives the scores of the last token only; `restarting`: used as on a provider that cannot go on."""
    name, switch = request.param, 64 if request.param == "longrope-fp32" else 0
    if name == "restarting":
        monkeypatch.setattr(genai, "RESTARTING", {"cpu"})
        name = "llama-fp32"
    with GenaiModel(open_folder(MODELS / name), EngineOptions(longrope_threshold=switch)) as made:
        yield made


@pytest.mark.parametrize("length", [1, 2, 30, 62, 65, 90])
def test_they_equal_brute_force_on_the_engine(real: TextModel, length: int) -> None:
    draw = random.Random(length)
    ids = [draw.randrange(5, 250) for _ in range(length)]
    continuations = [[draw.randrange(5, 250) for _ in range(size)] for size in (1, 1, 2, 4, 7)]
    continuations += [continuations[-1][:3], [real.shape.pad_id or 0, *continuations[0]]]
    expected = [brute_force(real.new_decoder(capacity_tokens=120), ids, one) for one in continuations]
    decoder, run = real.new_decoder(capacity_tokens=120), Run()
    assert score_continuations(decoder, ids, continuations, run=run) == pytest.approx(expected, abs=1e-4)
    assert (run.cached_tokens, list(decoder.tokens[:length])) == (0, ids)
    assert score_continuations(decoder, ids, continuations, run=run) == pytest.approx(expected, abs=1e-4)
    if not real.shape.longrope_threshold:
        assert run.cached_tokens == max(0, length - LEAST)
    changed = [*ids[: length // 2], 7, 8]
    expected = [brute_force(real.new_decoder(capacity_tokens=120), changed, one) for one in continuations]
    assert score_continuations(decoder, changed, continuations) == pytest.approx(expected, abs=1e-4)
