"""What a folder's config says of sampling is a default of ours, and never applied by the engine beside our options."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lmsupply_cli import GenerationOptions, TextGenerator, load
from lmsupply_cli.engine.guidance import Guidance

OPTIONS = GenerationOptions(temperature=0, max_tokens=12)
JSON = Guidance.json()
LETTERS = Guidance.regex("(a|b|c)")


@pytest.fixture(scope="module")
def loud(guide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide, with a config that wants everything."""
    folder = tmp_path_factory.mktemp("loud") / "guide"
    shutil.copytree(guide, folder)
    config = json.loads((folder / "genai_config.json").read_text())
    config["search"] |= {
        "do_sample": True, "temperature": 4.0, "top_k": 500, "top_p": 1.0, "repetition_penalty": 1.9, "min_length": 60,
        "no_repeat_ngram_size": 2, "num_beams": 3, "num_return_sequences": 3,
    }  # fmt: skip
    (folder / "genai_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "answer",
    [
        lambda m: m.generate("hello"),
        lambda m: m.generate("hello", guidance=JSON),
        lambda m: m.generate("hello", num_beams=2),
        lambda m: m.generate("hello", temperature=1.5, seed=4, top_p=1.0),
        lambda m: m.generate("hello", guidance=JSON, temperature=1.5, seed=4, top_p=1.0),
        lambda m: m.generate_batch(["hello", "thanks"], batch_size=2)[1],
        lambda m: m.generate_batch(["hello", "thanks"], batch_size=2, guidance=JSON)[1],
    ],
    ids=["plain", "guided", "beams", "sampled", "guided-sampled", "batch", "guided-batch"],
)
def test_it_changes_nothing(guide: Path, loud: Path, answer: Callable[[TextGenerator], object]) -> None:
    with load(guide, options=OPTIONS) as one, load(loud, options=OPTIONS) as other:
        assert {_fresh(other, answer) for _ in range(5)} == {_fresh(one, answer)}


def _fresh(model: TextGenerator, answer: Callable[[TextGenerator], object]) -> str:
    model.clear_cache()  # int4 scores depend a little on how many tokens are read at once
    return str(answer(model))


@pytest.mark.parametrize("speculative", ["ngram", "draft:guide"])
def test_nor_with_draft_tokens(guide: Path, loud: Path, speculative: str) -> None:
    with load(guide, options=OPTIONS) as one:
        expected = str(one.generate("hello", guidance=JSON))
    with load(loud, options=OPTIONS, speculative=speculative, guidance=JSON) as other:
        assert {_fresh(other, lambda m: m.generate("hello")) for _ in range(5)} == {expected}


def test_a_guided_draw_follows_the_scores(loud: Path) -> None:
    """Chi-square of 600 draws among three letters against the model's own probabilities."""
    options = GenerationOptions(temperature=2.0, top_k=0, top_p=1.0, max_tokens=2)
    with load(loud, options=options) as model:
        prompt = model.prompter.raw("The letter is ")
        decoder = model.model.new_decoder(capacity_tokens=32)
        decoder.append(prompt.ids)
        scores = decoder.logits()[[model.model.encode(letter)[0] for letter in "abc"]] / 2.0
        weights = np.exp(scores - scores.max())
        alone = Counter(
            model.generate("The letter is ", raw=True, guidance=LETTERS, seed=seed).text for seed in range(600)
        )
    assert set(alone) <= {"a", "b", "c"}
    expected = 600 * weights / weights.sum()
    assert expected.min() > 20
    counts = np.array([alone[letter] for letter in "abc"])
    assert ((counts - expected) ** 2 / expected).sum() < 13.8, (counts, expected)  # 2 degrees of freedom, p = 0.001
