"""A draft model in guided answers: the two folders as one for the engine."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lmsupply_cli import (
    EngineError,
    GenerationOptions,
    GeneratorPool,
    Guidance,
    LmsupplyError,
    Notice,
    TextGenerator,
    TextGeneratorBuilder,
    UsageError,
    load,
)
from lmsupply_cli.engine.folder import ModelFolder, open_folder
from lmsupply_cli.engine.pair import compose_pair
from lmsupply_cli.generation.speculation import DraftUse, plan_draft
from lmsupply_cli.store.scratch import TemporaryFolder

MODELS = Path(__file__).parent.parent / "models"
LARGE, SMALL, OTHER = (
    MODELS / "llama-fp32",
    MODELS / "llama",
    MODELS / "qwen2",
)  # one vocabulary; OTHER agrees on little
LIST = Guidance.json_schema(
    {"type": "array", "items": {"enum": ["alpha", "beta", "gamma"]}, "minItems": 6, "maxItems": 9}
)
GREEDY = GenerationOptions(temperature=0, max_tokens=80, repetition_penalty=1.0)


def pair(
    draft: Path, guidance: Guidance = LIST, *, options: GenerationOptions = GREEDY, **more: object
) -> TextGenerator:
    return load(LARGE, options=options, guidance=guidance, speculative=f"draft:{draft}", **more)  # type: ignore[arg-type]


def temporary(home: Path) -> list[Path]:
    place = home / "cache" / ".lmsupply" / "temporary"
    return sorted(place.iterdir()) if place.exists() else []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_the_answer_is_that_of_plain_decoding(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for root in (LARGE, SMALL) for path in [root, *root.iterdir()]}
    with load(LARGE, options=GREEDY, guidance=LIST) as plain, pair(SMALL) as model, pair(OTHER) as badly:
        expected = plain.generate("List them.")
        json.loads(expected.text)
        for found in (model.generate("List them."), badly.generate("List them.")):
            assert (found.text, found.finish_reason, found.usage) == (expected.text, "stop", expected.usage)
        assert len([path for path in temporary(home) if path.is_dir()]) == 2
        stats = model.generate("Again.").speculative
        assert stats is not None
        assert stats.accepted > 0.5 * stats.proposed > 0, "it guesses for itself, only rounded"
        assert model.generate("Again.").text == plain.generate("Again.").text
    assert temporary(home) == []
    assert {path: path.stat().st_mtime_ns for root in (LARGE, SMALL) for path in [root, *root.iterdir()]} == before


def test_sampling_keeps_the_distribution() -> None:
    """Chi-square of 500 draws of a guessed letter against the larger model's own probabilities."""
    options = GenerationOptions(temperature=1.5, top_k=0, top_p=1.0, repetition_penalty=1.0, max_tokens=8)
    with pair(OTHER, Guidance.regex("x(a|b|c)(a|b)"), options=options) as model:
        decoder = model.model.new_decoder(capacity_tokens=64)
        decoder.append(model.raw_prompt("Say x").ids)
        decoder.append(model.model.encode("x"))
        scores = decoder.logits()[[model.model.encode(letter)[0] for letter in "abc"]] / 1.5
        weights = np.exp(scores - scores.max())
        found = [model.generate("Say x", raw=True, seed=seed) for seed in range(500)]
    assert sum(answer.speculative.rounds for answer in found if answer.speculative) >= 500
    counts = Counter(answer.text[1] for answer in found)
    expected = 500 * weights / weights.sum()
    assert expected.min() > 20
    seen = np.array([counts[letter] for letter in "abc"])
    assert ((seen - expected) ** 2 / expected).sum() < 13.8, (seen, expected)  # 2 degrees of freedom, p = 0.001


def test_it_serves_what_else_is_asked_of_it() -> None:
    """Another guidance, a seed, several at once, prompts in a row."""
    letters = Guidance.regex("[a-d]{5,9}")
    with load(LARGE, options=GREEDY, guidance=LIST) as plain, pair(SMALL, draft_tokens=64) as model:
        assert model.generate("x", guidance=letters).text == plain.generate("x", guidance=letters).text
        assert str(model.generate("x")) == str(plain.generate("x"))
        drawn = [model.generate("x", temperature=1.0, seed=7).text for _ in range(2)]
        assert drawn[0] == drawn[1]
        assert [*map(str, model.generate_batch(["a", "b"], batch_size=2))] == [str(plain.generate(p)) for p in "ab"]
        with pytest.raises(UsageError, match="a schema, regex or grammar decides alone"):
            model.generate("x", num_beams=2)
    pool = (
        TextGeneratorBuilder().with_model_path(LARGE).with_guidance(LIST).with_speculation(f"draft:{SMALL}")
        .with_default_options(GREEDY).with_concurrency(2).build()
    )  # fmt: skip
    assert isinstance(pool, GeneratorPool)
    with pool, load(LARGE, options=GREEDY, guidance=LIST) as plain:
        assert [str(pool.generate("x")), str(pool.generate("y"))] == [str(plain.generate(p)) for p in "xy"]


def changed(source: Path, to: Path, change: Callable[[dict[str, object]], object]) -> Path:
    shutil.copytree(source, to)
    config = json.loads((to / "genai_config.json").read_text())
    change(config["model"])
    (to / "genai_config.json").write_text(json.dumps(config))
    return to


def notes(model: TextGenerator) -> list[str]:
    return [event.text for event in model.stream("x") if isinstance(event, Notice) and event.code == "speculative"]


def test_what_cannot_be_paired_guesses_from_the_text_and_says_so(tmp_path: Path, home: Path) -> None:
    short = changed(SMALL, tmp_path / "short", lambda model: model.update(context_length=100))
    with pair(short) as model:
        assert notes(model) == [
            "in a guided answer the text guesses, not the draft model: that reads 100 tokens at most; --context 100 lets it"
            " guess"
        ]
        assert temporary(home) == []
    with pair(short, context=100) as model:
        assert notes(model) == []
        assert len(temporary(home)) == 2, "the folder and its lock"
    parts = changed(SMALL, tmp_path / "parts", lambda model: model.update(vision={"filename": "other.onnx"}))
    shutil.copy(parts / "model.onnx", parts / "other.onnx")
    with pair(parts) as model:
        assert notes(model)[0].endswith("one of the two is made of several graphs")
    with load(LARGE, options=GREEDY, speculative=f"draft:{SMALL}") as model:
        assert model.generate("x", guidance=LIST).speculative is not None
    with pair(SMALL, options=GREEDY.replaced(num_beams=2)) as model:
        plain = [e.text for e in model.stream("x", num_beams=1) if isinstance(e, Notice)]
        assert "was not loaded, since the options ask for beams" in plain[0]


def test_a_guidance_that_the_engine_cannot_end_needs_no_draft_model(tmp_path: Path) -> None:
    several = open_folder(changed(LARGE, tmp_path / "several", lambda model: model.update(eos_token_id=[2, 3])))
    open_ended, closed = Guidance.regex("a+"), LIST
    assert plan_draft(several, open_folder(SMALL), open_ended, provider="cpu", context_tokens=512) == DraftUse("none")
    assert plan_draft(several, open_folder(SMALL), closed, provider="cpu", context_tokens=512).how == "pair"


def test_a_broken_draft_model_is_named(tmp_path: Path, home: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(SMALL, broken)
    (broken / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError) as caught:
        pair(broken)
    assert f"cannot load {broken / 'model.onnx'}" in caught.value.message
    assert str(broken / "model.onnx") in caught.value.message
    del caught
    assert temporary(home) == []


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows without the right to make symbolic links."""

    def refuse(self: Path, target: Path, target_is_directory: bool = False) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)


@pytest.mark.usefixtures("no_links")
def test_without_symbolic_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    large, small = (Path(shutil.copytree(source, tmp_path / source.name)) for source in (LARGE, SMALL))
    options = {"options": GREEDY, "guidance": LIST}
    with load(large, **options) as plain, load(large, speculative=f"draft:{small}", **options) as model:  # type: ignore[arg-type]
        assert str(model.generate("x")) == str(plain.generate("x"))
    assert (large / "model.onnx").exists(), "only the other name went"

    def crossing(source: Path, at: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", crossing)
    with pytest.raises(EngineError, match=r"cannot be linked into .*: Invalid cross-device link") as caught:
        load(large, speculative=f"draft:{small}", **options)  # type: ignore[arg-type]
    assert caught.value.hint == "--speculative ngram"


def composed(into: Path, provider: str = "auto") -> ModelFolder:
    into.mkdir()
    return compose_pair(open_folder(LARGE), open_folder(SMALL), into, provider=provider)


@pytest.mark.parametrize(("provider", "named"), [("cpu", []), ("cuda", [{"cuda": {}}]), ("webgpu", [{"WebGPU": {}}])])
def test_both_run_on_the_same_provider(tmp_path: Path, provider: str, named: list[object]) -> None:
    model = composed(tmp_path / "pair", provider).model
    for part, folder in (("decoder", "target"), ("draft", "draft")):
        assert model[part]["session_options"]["provider_options"] == named
        assert model[part]["filename"] == f"{folder}/model.onnx"


def test_a_folder_that_was_composed_by_someone_else(tmp_path: Path) -> None:
    path = composed(tmp_path / "pair").path
    with load(path, options=GREEDY) as model, load(LARGE, options=GREEDY) as plain:
        assert model.generate("x", max_tokens=9).text == plain.generate("x", max_tokens=9).text
        found = model.generate("x", guidance=LIST)
        assert found.text == plain.generate("x", guidance=LIST).text
        assert found.speculative is not None
        assert found.speculative.accepted > 0
        both = [[str(a) for a in one.generate_batch(["x", "y"], max_tokens=5)] for one in (model, plain)]
        assert both[0] == both[1], "one after the other, since the engine takes no batch of it"
        with pytest.raises(UsageError, match="beam search excludes that another model guesses"):
            model.generate("x", num_beams=2)


@pytest.mark.parametrize("speculative", ["off", "ngram", f"draft:{SMALL}"])
def test_such_a_folder_with_several_end_tokens(tmp_path: Path, speculative: str) -> None:
    composed(tmp_path / "pair")
    path = changed(tmp_path / "pair", tmp_path / "several", lambda model: model.update(eos_token_id=[2, 3]))
    with load(path, options=GREEDY, speculative=speculative) as model:
        assert json.loads(model.generate("x", guidance=LIST).text)
        with pytest.raises(UsageError, match="a draft model of its own, with which this format has no end"):
            model.generate("x", guidance=Guidance.regex("a+"))


def test_a_temporary_folder_is_removed_once_nobody_uses_it(tmp_path: Path) -> None:
    one = TemporaryFolder(tmp_path)
    left = one.path.parent / "left"
    left.mkdir()
    (left / "file").write_text("by a process that was killed")
    (one.path / "file").write_text("in use")
    two = TemporaryFolder(tmp_path)
    assert not left.exists()
    assert (one.path / "file").exists(), "its lock is held"
    one.close()
    one.close()
    del two
    assert list(left.parent.iterdir()) == []


def test_a_store_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LmsupplyError, match=r"cannot write .*file") as caught:
        TemporaryFolder(tmp_path / "file")
    assert "--cache-dir" in caught.value.hint
