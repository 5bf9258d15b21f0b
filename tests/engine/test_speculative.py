"""Draft tokens change the speed and never the answer."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsupply_cli import Finished, Guidance, TextDelta, UsageError, load
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.ending import Ending
from lmsupply_cli.engine.fake import VOCABULARY, FakeModel
from lmsupply_cli.engine.genai import GenaiModel
from lmsupply_cli.engine.generate import stream_tokens
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.prefill import Run, prefill
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.engine.speculative import DraftLength, NgramDrafter, stream_speculative
from lmsupply_cli.events import SpeculativeStats
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.loading.plan import plan_load

MODELS = Path(__file__).parent.parent / "models"


class Drafts:
    """Drafts that are given, right or wrong."""

    def __init__(self, drafts: Sequence[Sequence[int]]) -> None:
        self.drafts = iter(drafts)

    def propose(self, tokens: Sequence[int], count: int, cancel: CancelToken | None = None) -> list[int]:
        return list(next(self.drafts, ()))[:count]


def cycle(tokens: Sequence[int]) -> int:
    """Repeats 1 to 5; ends after 40 tokens."""
    return 258 if len(tokens) >= 40 else tokens[-1] % 5 + 1


def plain(model: FakeModel, ids: Sequence[int], options: GenerationOptions, most: int) -> tuple[list[int], Run]:
    decoder, run = model.new_decoder(capacity_tokens=120), Run()
    for _ in prefill(decoder, ids, run=run, cancel=CancelToken()):
        pass
    sampler = Sampler(options, vocabulary=VOCABULARY, eos_ids=model.shape.eos_ids)
    sampler.read(ids)
    return list(stream_tokens(decoder, sampler, ending=Ending(most, model.shape.eos_ids), run=run)), run


@settings(max_examples=150, deadline=None)
@given(
    drafts=st.lists(st.lists(st.integers(1, 6), max_size=6), max_size=30),
    most=st.integers(1, 50),
    taken=st.integers(1, 60),
    temperature=st.sampled_from([0.0, 1.0, 4.0]),
    width=st.integers(1, 6),
)
def test_whatever_is_drafted_the_answer_is_that_of_plain_decoding(
    drafts: list[list[int]], most: int, taken: int, temperature: float, width: int
) -> None:
    model, ids = FakeModel(cycle), [5, 1, 2]
    options = GenerationOptions(temperature=temperature, top_p=1.0, top_k=0, seed=3, repetition_penalty=1.2)
    expected, plain_run = plain(model, ids, options, most)
    decoder, run, stats = model.new_decoder(capacity_tokens=120), Run(), SpeculativeStats()
    for _ in prefill(decoder, ids, run=run, cancel=CancelToken()):
        pass
    sampler = Sampler(options, vocabulary=VOCABULARY, eos_ids=model.shape.eos_ids)
    sampler.read(ids)
    stream = stream_speculative(
        decoder, sampler, drafter=Drafts(drafts), draft_tokens=width, stats=stats,
        ending=Ending(most, model.shape.eos_ids), run=run,
    )  # fmt: skip
    found = [token for token, _ in zip(stream, range(taken), strict=False)]
    stream.close()  # type: ignore[attr-defined]
    assert found == expected[:taken]
    whole = [*ids, *run.ids]
    assert list(decoder.tokens) == whole[: len(decoder.tokens)], "nothing but true tokens is left"
    assert stats.accepted <= stats.proposed
    if taken > len(expected):
        assert run.finish_reason == plain_run.finish_reason


@pytest.fixture(scope="module", params=["guide", "llama-fp32", "toy"])
def folder(request: pytest.FixtureRequest) -> Path:
    import lmsupply_cli

    package = Path(lmsupply_cli.__file__).parent / "builtin" / "guide"
    return package if request.param == "guide" else MODELS / request.param


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.0, "seed": 5, "repetition_penalty": 1.1}])
@pytest.mark.parametrize("speculative", ["ngram", "draft"])
def test_on_the_real_engine_token_by_token(folder: Path, options: dict[str, float], speculative: str) -> None:
    prompt = "hello hello hello, the quick brown fox, hello hello hello, the quick"
    wanted = f"draft:{folder}" if speculative == "draft" else "ngram"
    with load(folder) as one, load(folder, speculative=wanted) as two:
        expected = one.generate(prompt, max_tokens=60, **options)
        found = two.generate(prompt, max_tokens=60, **options)
        assert (found.text, found.finish_reason) == (expected.text, expected.finish_reason)
        assert found.usage.completion_tokens == expected.usage.completion_tokens
        assert found.speculative is not None
        if speculative == "draft" and options["temperature"] == 0:
            assert found.speculative.rate > 0.6, "it drafts for itself"
        again = two.generate(prompt + " fox", max_tokens=20, **options)
        assert again.text == one.generate(prompt + " fox", max_tokens=20, **options).text


@pytest.mark.parametrize("speculative", ["ngram", f"draft:{MODELS / 'gemma2'}"])
@pytest.mark.parametrize("guidance", [None, Guidance.regex("[a-z ]{60,80}")])
def test_beyond_a_sliding_window(speculative: str, guidance: Guidance | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window holds 32 tokens; wrong drafts are taken back without reading the prompt again."""
    folder, prompt, options = (
        MODELS / "gemma2",
        "one two one two one two three " * 3,
        {"temperature": 0, "max_tokens": 50, "repetition_penalty": 1.1},
    )
    with load(folder) as plain:
        expected = plain.generate(prompt, guidance=guidance, **options)
    made: list[object] = []
    new = GenaiModel.new_generator

    def noted(self: GenaiModel, **more: Any) -> Any:
        made.append(more)
        return new(self, **more)

    monkeypatch.setattr(GenaiModel, "new_generator", noted)
    with load(folder, speculative=speculative, guidance=guidance) as model:
        model.model.drafting_blocker()
        made.clear()
        found = model.generate(prompt, **options)
    assert (found.text, found.usage) == (expected.text, expected.usage)
    assert found.speculative is not None
    assert found.speculative.proposed > found.speculative.accepted
    assert len(made) == (2 if speculative.startswith("draft") else 1)


def test_sampling_keeps_the_distribution() -> None:
    """Chi-square of 3,000 draws after right and wrong drafts against the model's own probabilities."""
    weights = np.array([5.0, 3.0, 1.5, 0.5])

    model = FakeModel(lambda tokens: 0)
    counts = np.zeros(4)
    for seed in range(1500):
        decoder = model.new_decoder(capacity_tokens=40)
        decoder.append([1])

        def rows(count: int) -> np.ndarray:  # type: ignore[type-arg]
            scores = np.full((count, VOCABULARY), -np.inf, dtype=np.float32)
            scores[:, :4] = np.log(weights)
            return scores

        decoder.wide_logits = rows  # type: ignore[method-assign]
        options = GenerationOptions(temperature=1.0, top_p=1.0, top_k=0, seed=seed, repetition_penalty=1.0)
        sampler = Sampler(options, vocabulary=VOCABULARY, eos_ids=())
        made = list(
            stream_speculative(
                decoder,
                sampler,
                drafter=Drafts([[0, 0, 3], [1, 0]]),
                draft_tokens=3,
                stats=SpeculativeStats(),
                ending=Ending(3, ()),
                run=Run(),
            )
        )
        for token in made[1:]:  # the first has no draft token before it
            counts[token] += 1
    expected = weights / weights.sum() * counts.sum()
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert counts.sum() == 3000
    assert chi_square < 16.27  # three degrees of freedom, p = 0.001


def test_the_text_itself_is_looked_up() -> None:
    drafter = NgramDrafter()
    tokens = [1, 2, 3, 4, 5, 9, 1, 2, 3]
    assert drafter.propose(tokens, 3) == [4, 5, 9]
    assert drafter.propose([*tokens, 7, 8], 3) == [], "nothing like it stood there before"
    assert NgramDrafter().propose([1, 2, 1, 2, 1, 2], 5) == [1, 2, 1, 2, 1]
    assert NgramDrafter().propose([1], 5) == []


def test_the_width_follows_what_was_right() -> None:
    width = DraftLength(4)
    assert width.next() == 4
    width.learn(4, 1)
    assert width.next() == 3
    width.learn(3, 3)
    assert width.next() == 4
    for _ in range(2):
        width.learn(4, 0)
    assert [width.next() for _ in range(9)].count(0) == 8


def test_stats_and_what_needs_no_draft_tokens(guide: Path) -> None:
    with load(guide, speculative="ngram", draft_tokens=6) as model:
        *_, last = model.stream("thanks " * 30, temperature=0)
        assert isinstance(last, Finished)
        assert last.speculative is not None
        assert last.speculative.tokens_per_s > 0
        assert model.generate("hello", num_beams=2, max_tokens=8).speculative is None


@pytest.mark.parametrize(("text", "found"), [("off", ""), ("ngram", ""), ("draft:phi-4-mini", "phi-4-mini")])
def test_what_can_be_asked_for(text: str, found: str) -> None:
    assert LoadOptions(speculative=text).draft_ref == found


@pytest.mark.parametrize("text", ["", "on", "draft", "draft:"])
def test_what_cannot(text: str) -> None:
    with pytest.raises(UsageError, match="unknown") as caught:
        LoadOptions(speculative=text)
    assert "draft:MODEL" in caught.value.hint


def test_a_draft_must_share_the_vocabulary(guide: Path) -> None:
    with pytest.raises(UsageError, match="the vocabularies differ"):
        load(guide, speculative=f"draft:{MODELS / 'llama'}")
    plan = plan_load(MODELS / "llama", LoadOptions(speculative=f"draft:{MODELS / 'llama-fp32'}"))
    assert plan.draft is not None
    assert plan.draft.folder.path == MODELS / "llama-fp32"
    before = {path: path.stat().st_mtime for path in (MODELS / "llama").iterdir()}
    with load(MODELS / "llama-fp32", speculative=f"draft:{MODELS / 'llama'}") as model:
        assert model.generate("hello", max_tokens=10, temperature=0).speculative is not None
    assert {path: path.stat().st_mtime for path in (MODELS / "llama").iterdir()} == before


@pytest.mark.parametrize("speculative", ["ngram", "draft:guide"])
@pytest.mark.parametrize("guidance", [None, Guidance.regex("[a-z ]{40,60}")])
def test_an_answer_may_be_given_up_after_its_model(
    speculative: str, guidance: Guidance | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it happens where the reader of a pipe goes away."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with load("guide", speculative=speculative, guidance=guidance) as model:
        events = model.stream("hello")
        while not isinstance(next(events), TextDelta):
            pass
    del events
    gc.collect()
    assert unraisable == []
