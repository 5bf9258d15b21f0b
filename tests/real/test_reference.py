"""Against llama.cpp and transformers, whose results `tools/make_real_reference.py` wrote down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.real_model import log_probabilities

from lmsupply_cli import ChatMessage, TextGenerator

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parent / "reference.json").read_text(encoding="utf-8"))


def test_the_token_ids_are_those_of_llama_cpp(model: TextGenerator) -> None:
    texts = dict(REFERENCE["token_ids"])
    assert {text: model.model.encode(text) for text in texts} == texts
    plain = {text: ids for text, ids in texts.items() if "<|" not in text}
    assert {text: model.model.decode(ids) for text, ids in plain.items()} == {text: text for text in plain}


def test_the_prompt_of_a_chat_is_that_of_transformers(model: TextGenerator) -> None:
    assert (
        list(model.prompter.chat([ChatMessage(**message) for message in REFERENCE["chat"]]).ids)
        == REFERENCE["chat_ids"]
    )


def test_in_fp32_the_scores_are_those_of_transformers(fp32: TextGenerator) -> None:
    ids = fp32.model.encode(REFERENCE["story"])
    found = log_probabilities(fp32.model, ids)[np.arange(len(ids) - 1), ids[1:]]
    assert found == pytest.approx(np.array(REFERENCE["story_logprobs"]), abs=1e-3)


@pytest.mark.parametrize(("prompt", "answer"), REFERENCE["greedy"], ids=lambda value: repr(value)[:20])
def test_in_fp32_every_choice_is_that_of_transformers(fp32: TextGenerator, prompt: str, answer: list[int]) -> None:
    """Of the next token after each token of the answer."""
    ids = list(fp32.prompter.raw(prompt).ids)
    found = log_probabilities(fp32.model, [*ids, *answer[:-1]])[len(ids) - 1 :].argmax(axis=-1)
    assert found.tolist() == answer


def test_in_fp32_an_answer_is_that_of_transformers(fp32: TextGenerator) -> None:
    prompt, answer = REFERENCE["greedy"][0]
    found = fp32.generate(prompt, raw=True, max_tokens=len(answer))
    assert found.text == fp32.model.decode(answer)


@pytest.mark.parametrize(
    ("model", "divergence", "same"),
    [("exact", 0.01, 0.9), ("int8", 0.01, 0.9), ("int4", 0.35, 0.65)],
    indirect=["model"],
)
def test_a_quantized_form_stays_near_fp32(
    model: TextGenerator, fp32: TextGenerator, divergence: float, same: float
) -> None:
    """The mean KL divergence, how often the most likely token is the same, and the perplexity of a story. int4 rounds
    what was rounded to 4 bits before."""
    ids = model.model.encode(REFERENCE["story"])
    expected, found = log_probabilities(fp32.model, ids), log_probabilities(model.model, ids)
    assert 0 < float((np.exp(expected) * (expected - found)).sum(axis=-1).mean()) < divergence
    assert float((found.argmax(axis=-1) == expected.argmax(axis=-1)).mean()) > same
    logprob = float(found[np.arange(len(ids) - 1), ids[1:]].mean())
    assert logprob == pytest.approx(REFERENCE["llama_cpp_logprob"], abs=0.02 if divergence < 0.1 else 0.15)
