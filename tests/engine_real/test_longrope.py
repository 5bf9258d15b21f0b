"""Models with other rotary tables beyond some tokens (longrope: Phi-3.5): every sequence is read in one way. The model
here has them beyond 64 tokens; what is read at once is the truth."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmsupply_cli import (
    DoesNotFit,
    GenerationOptions,
    Guidance,
    Notice,
    PrefillProgress,
    TextGenerator,
    load,
)
from lmsupply_cli.engine.beams import beam_search
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.ending import Ending
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import EngineOptions, GenaiModel
from lmsupply_cli.engine.prefill import Run, prefill
from lmsupply_cli.generation.batch import BatchItem, BatchListener, BatchRunner
from lmsupply_cli.memory.budget import MemoryBudget
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.shape import read_shape

MODELS = Path(__file__).parent.parent / "models"
MODEL = MODELS / "longrope-fp32"
GREEDY = GenerationOptions(temperature=0, repetition_penalty=1.0, max_tokens=40)
IDS = [random.Random(1).randrange(5, 400) for _ in range(300)]
LONG, SHORT = "a " * 60, "a " * 5


@pytest.fixture(scope="module")
def model() -> Iterator[GenaiModel]:
    with GenaiModel(open_folder(MODEL), EngineOptions(longrope_threshold=64)) as made:
        yield made


def truth(model: GenaiModel, ids: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    generator = model.new_generator(capacity_tokens=400)
    generator.append_tokens(np.asarray(ids, dtype=np.int32))
    scores: np.ndarray = generator.get_logits().reshape(-1).copy()  # type: ignore[type-arg]
    return scores


def read(model: GenaiModel, decoder: object, ids: list[int], chunk: int = 16) -> Run:
    run = Run()
    for _ in prefill(decoder, ids, run=run, cancel=CancelToken(), chunk=chunk):  # type: ignore[arg-type]
        pass
    assert list(decoder.tokens) == ids  # type: ignore[attr-defined]
    np.testing.assert_allclose(decoder.logits(), truth(model, ids), atol=1e-4)  # type: ignore[attr-defined]
    return run


def test_the_graph_tells_where_it_switches() -> None:
    shape = read_shape(open_folder(MODEL))
    assert shape is not None
    assert shape.longrope_threshold == 64
    for name in ("phi3", "llama", "gemma2", "toy"):
        other = read_shape(open_folder(MODELS / name))
        assert other is not None
        assert other.longrope_threshold == 0
    near, beyond = estimate_memory(shape, 64), estimate_memory(shape, 65)
    assert near.logits_bytes == 64 * shape.vocabulary * 4
    assert beyond.logits_bytes == 65 * shape.vocabulary * 4


@pytest.mark.parametrize("restarting", [False, True])
def test_whatever_is_read_in_pieces_is_as_read_at_once(
    model: GenaiModel, restarting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_restarts", restarting)
    for count in (40, 64, 65, 66, 200):
        read(model, model.new_decoder(capacity_tokens=300), IDS[:count])
    decoder = model.new_decoder(capacity_tokens=300)
    read(model, decoder, IDS[:60])
    for count in range(61, 70):  # as an answer grows
        decoder.append(IDS[count - 1 : count])
        np.testing.assert_allclose(decoder.logits(), truth(model, IDS[:count]), atol=1e-4)
    assert read(model, decoder, IDS[:150]).cached_tokens == 69, "both are long"
    assert read(model, decoder, IDS[:50]).cached_tokens == 0
    assert read(model, decoder, IDS[:60]).cached_tokens == 50, "both are short"
    assert read(model, decoder, IDS[:80]).cached_tokens == 0
    decoder.rewind(30)
    decoder.append(IDS[30:33])
    np.testing.assert_allclose(decoder.logits(), truth(model, IDS[:33]), atol=1e-4)


def text(model: TextGenerator, prompt: str, **more: object) -> str:
    return str(model.generate(prompt, raw=True, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("speculative", ["ngram", f"draft:{MODEL}"])
def test_draft_tokens_change_nothing_where_it_switches(speculative: str) -> None:
    with load(MODEL, options=GREEDY) as plain, load(MODEL, options=GREEDY, speculative=speculative) as drafting:
        for length in range(8, 40, 3):
            prompt = "one two " * length
            assert text(drafting, prompt) == text(plain, prompt)
        assert text(drafting, "one", max_tokens=120) == text(plain, "one", max_tokens=120)


def test_an_answer_is_the_same_with_and_without_a_cache() -> None:
    with load(MODEL, options=GREEDY) as one, load(MODEL, options=GREEDY) as other:
        for prompt in (SHORT, LONG, SHORT, LONG * 2, LONG):
            other.clear_cache()
            assert text(one, prompt) == text(other, prompt)
        events = list(other.stream(LONG * 2, raw=True))
        steps = [event.done_tokens for event in events if isinstance(event, PrefillProgress)]
        assert steps[:2] == [0, 65] or steps[0] > 64, "one piece that is long enough"


def test_batches_do_not_pass_it() -> None:
    with load(MODEL, options=GREEDY) as model:
        for prompts in ([SHORT, "b"], [SHORT, LONG], [LONG, LONG + "b"]):
            for guidance in (None, Guidance.regex("[a-z]{3,5}")):
                expected = [str(model.generate(prompt, guidance=guidance)) for prompt in prompts]
                found = model.generate_batch(prompts, batch_size=2, guidance=guidance)
                assert [str(answer) for answer in found] == expected
        said: list[Notice] = []
        listener = BatchListener()
        listener.notice = said.append  # type: ignore[method-assign]
        runner = BatchRunner(model, size=2, listener=listener)
        asked = [_asked(model, LONG), _asked(model, SHORT)]
        assert not runner.choose(asked).together
        assert said[0].text.endswith("this model processes sequences of more than 64 tokens differently")
        assert runner.choose([_asked(model, "b"), _asked(model, "c")]).together


def _asked(model: TextGenerator, prompt: str) -> BatchItem:
    return BatchItem(model.prompter.raw(prompt), model.options)


@pytest.mark.parametrize("length", [50, 58, 62, 64, 65, 90])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_beams_are_worth_what_is_read_at_once(model: GenaiModel, length: int, num_beams: int) -> None:
    decoder = model.new_decoder(capacity_tokens=200)
    ids = IDS[:length]
    best, *_ = beam_search(decoder, ids, num_beams=num_beams, ending=Ending(8, ()))
    total = 0.0
    for at, token in enumerate(best.tokens):
        scores = truth(model, [*ids, *best.tokens[:at]]).astype(np.float64)
        total += scores[token] - scores.max() - np.log(np.exp(scores - scores.max()).sum())
        assert num_beams > 1 or token == scores.argmax()
    assert len(best.tokens) == 8
    assert best.score == pytest.approx(total / 8, abs=1e-4)


def test_beams_may_pass_it() -> None:
    with load(MODEL, options=GREEDY) as model:
        for prompt in ("a " * 25, SHORT, LONG):
            assert text(model, prompt, num_beams=2)


def test_the_memory_limit_counts_the_long_piece() -> None:
    shape = read_shape(open_folder(MODEL))
    assert shape is not None
    large = replace(shape, vocabulary=200_000_000)  # 0.8 GB of scores for a token
    budget = MemoryBudget(500_000_000, large, used=lambda: 0)
    budget.check_cache(64)
    with pytest.raises(DoesNotFit, match="a context of 65 tokens would bring the process to 800 MB"):
        budget.check_cache(65)
