"""Providers that take a prompt in one piece and cannot go on with it after they decode: the real engine, made as strict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli import GenerationOptions, Guidance, Notice, TextGenerator, load
from lmsupply_cli.engine import genai
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import GenaiModel
from lmsupply_cli.engine.genai_decoders import RestartingDecoder
from lmsupply_cli.engine.sampler import Sampler

MODELS = Path(__file__).parent.parent / "models"
MODEL = MODELS / "llama-fp32"
OPTIONS = GenerationOptions(temperature=0, repetition_penalty=1.0, max_tokens=24)
LETTERS, LIST = Guidance.regex("[a-f]{9,12}"), Guidance.json_schema({"type": "array", "items": {"type": "boolean"}})
LONG = "A long prompt, of more tokens than are read at once elsewhere. " * 4


class Strict:
    """A generator of the engine that refuses what such a provider refuses."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def append_tokens(self, ids: Any) -> None:
        if self._generator.token_count():
            raise RuntimeError("Continuous decoding is not supported by this provider")
        self._generator.append_tokens(ids)

    def rewind_to(self, count: int) -> None:
        raise RuntimeError("RewindTo is not supported by this provider")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    made = GenaiModel.new_generator
    monkeypatch.setattr(genai, "RESTARTING", {"cpu"})
    monkeypatch.setattr(GenaiModel, "new_generator", lambda self, **options: Strict(made(self, **options)))


def answers(model: TextGenerator) -> list[str]:
    talk = [{"role": "user", "content": LONG}]
    found = [model.generate_chat(talk), model.generate_chat(talk, guidance=LETTERS)]
    talk += [{"role": "assistant", "content": str(found[1])}, {"role": "user", "content": "Go on."}]
    found += [model.generate_chat(talk, guidance=LETTERS), model.generate_chat(talk, guidance=LIST)]
    found += [model.generate_chat(talk, guidance=LIST, temperature=1.0, seed=seed) for seed in (3, 3, 4)]
    found += [model.generate_chat(talk), *model.generate_batch(["x", "y"], guidance=LETTERS)]
    return [str(answer) for answer in found]


@pytest.fixture(scope="module")
def expected() -> list[str]:
    with load(MODEL, options=OPTIONS) as model:
        return answers(model)


@pytest.mark.usefixtures("strict")
def test_the_answers_are_the_same(expected: list[str]) -> None:
    with load(MODEL, options=OPTIONS) as model:
        assert answers(model) == expected


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("speculative", ["ngram", f"draft:{MODELS / 'llama'}"])
def test_there_are_no_draft_tokens_and_that_is_said(expected: list[str], speculative: str) -> None:
    with load(MODEL, options=OPTIONS, speculative=speculative) as model:
        assert answers(model) == expected
        model.clear_cache()
        notes = [[e.text for e in model.stream("x", guidance=g) if isinstance(e, Notice)] for g in (None, LETTERS)]
        assert notes == [[], []], "it was said with the first answer"
    with load(MODEL, options=OPTIONS, speculative=speculative, guidance=LETTERS) as model:
        notes = [[e.text for e in model.stream("x") if isinstance(e, Notice)]]
        assert notes == [["speculative decoding is off: cpu cannot read several tokens at once"]]


@pytest.mark.usefixtures("strict")
def test_a_decoder_keeps_the_truth_about_its_tokens_in_a_guided_answer() -> None:
    with load(MODEL, options=OPTIONS) as model:
        decoder = model.model.new_decoder(capacity_tokens=24)
        assert isinstance(decoder, RestartingDecoder)

        def guided() -> int:
            matcher = model.model.new_matcher(LETTERS)
            sampler = Sampler(OPTIONS, vocabulary=model.model.shape.vocabulary, eos_ids=(), matcher=matcher)
            return sampler.choose(decoder.logits())

        decoder.append([5, 6])
        decoder.append([7])
        assert list(decoder.tokens) == [5, 6, 7]
        first = guided()
        decoder.append([first])
        assert list(decoder.tokens) == [5, 6, 7, first]
        decoder.rewind(2)
        assert list(decoder.tokens) == [5, 6]
        with pytest.raises(RuntimeError, match="only there after an append"):
            decoder.logits()
        decoder.append([7])
        assert guided() == first, "the guidance begins anew"
        with pytest.raises(ValueError, match="cannot rewind 3 tokens to 5"):
            decoder.rewind(5)


@pytest.mark.usefixtures("strict")
def test_a_padding_token_at_the_end_of_what_is_read_again_counts() -> None:
    """The engine alone takes it for padding and leaves it out."""
    with GenaiModel(open_folder(MODELS / "toy")) as model:
        pad = model.shape.pad_id
        assert pad is not None
        decoder = model.new_decoder(capacity_tokens=24)
        decoder.append([5, 6, pad])
        assert int(decoder.logits().argmax()) == pad + 1
