"""A draft model: two folders of the same vocabulary. The answers, guided ones too, are those of plain decoding."""

from __future__ import annotations

import json
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
    Notice,
    TextGenerator,
    TextGeneratorBuilder,
    UsageError,
    load,
)
from lmsupply_cli.engine import genai

MODELS = Path(__file__).parent.parent / "models"
LARGE, SMALL, OTHER = (
    MODELS / "llama-fp32",
    MODELS / "llama",
    MODELS / "qwen2",
)  # one vocabulary; OTHER agrees on little
LONGROPE, TOY = MODELS / "longrope-fp32", MODELS / "toy"
LIST = Guidance.json_schema(
    {"type": "array", "items": {"enum": ["alpha", "beta", "gamma"]}, "minItems": 6, "maxItems": 9}
)
GREEDY = GenerationOptions(temperature=0, max_tokens=80, repetition_penalty=1.0)
SAMPLED = GenerationOptions(temperature=1.0, max_tokens=50)


def drafted(
    draft: Path, guidance: Guidance | None = LIST, *, options: GenerationOptions = GREEDY, **more: object
) -> TextGenerator:
    return load(LARGE, options=options, guidance=guidance, speculative=f"draft:{draft}", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("guidance", [None, LIST])
def test_the_answer_is_that_of_plain_decoding(guidance: Guidance | None, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for root in (LARGE, SMALL) for path in [root, *root.iterdir()]}
    with (
        load(LARGE, options=GREEDY, guidance=guidance) as plain,
        drafted(SMALL, guidance) as model,
        drafted(OTHER, guidance) as badly,
    ):
        expected = plain.generate("List them.")
        for found in (model.generate("List them."), badly.generate("List them.")):
            assert (found.text, found.finish_reason, found.usage) == (
                expected.text, expected.finish_reason, expected.usage,
            )  # fmt: skip
            assert found.complete == expected.complete == (True if guidance else None)
        stats = model.generate("Again.").speculative
        assert stats is not None
        assert stats.proposed > 0
        assert guidance or stats.accepted > 0.5 * stats.proposed, "it drafts for itself, only rounded"
        assert model.generate("Again.").text == plain.generate("Again.").text
    assert {path: path.stat().st_mtime_ns for root in (LARGE, SMALL) for path in [root, *root.iterdir()]} == before
    assert list(tmp_path.rglob("*.onnx")) == [], "nothing is copied"


def test_sampling_keeps_the_distribution() -> None:
    """Chi-square of 500 draws of a drafted letter against the larger model's own probabilities."""
    options = GenerationOptions(temperature=1.5, top_k=0, top_p=1.0, repetition_penalty=1.0, max_tokens=8)
    with drafted(OTHER, Guidance.regex("x(a|b|c)(a|b)"), options=options) as model:
        decoder = model.model.new_decoder(capacity_tokens=64)
        decoder.append(model.prompter.raw("Say x").ids)
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
    with load(LARGE, options=GREEDY, guidance=LIST) as plain, drafted(SMALL, draft_tokens=64) as model:
        assert model.generate("x", guidance=letters).text == plain.generate("x", guidance=letters).text
        assert str(model.generate("x")) == str(plain.generate("x"))
        drawn = [model.generate("x", temperature=1.0, seed=7).text for _ in range(2)]
        assert drawn[0] == drawn[1] == plain.generate("x", temperature=1.0, seed=7).text
        assert [*map(str, model.generate_batch(["a", "b"], batch_size=2))] == [str(plain.generate(p)) for p in "ab"]
        with pytest.raises(UsageError, match="beam search cannot be combined with a schema"):
            model.generate("x", num_beams=2)
    builder = TextGeneratorBuilder().with_model_path(LARGE).with_guidance(LIST).with_default_options(GREEDY)
    pool = builder.with_speculation(f"draft:{SMALL}").build_pool(2)
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


@pytest.mark.parametrize("guidance", [None, LIST])
def test_a_draft_model_with_a_shorter_context_drafts_as_far_as_it_reads(
    guidance: Guidance | None, tmp_path: Path
) -> None:
    short = changed(SMALL, tmp_path / "short", lambda model: model.update(context_length=40))
    with load(LARGE, options=GREEDY, guidance=guidance) as plain, drafted(short, guidance) as model:
        for prompt in ("x", "a long prompt " * 20):
            expected, found = plain.generate(prompt), model.generate(prompt)
            assert (found.text, found.usage) == (expected.text, expected.usage)
        assert found.speculative is not None
        assert found.speculative.proposed == 0
        assert notes(model) == []


def test_several_end_tokens_are_no_obstacle(tmp_path: Path) -> None:
    several = changed(LARGE, tmp_path / "several", lambda model: model.update(eos_token_id=[2, 3]))
    for guidance in (Guidance.regex("a+"), LIST):
        with load(several, options=GREEDY, guidance=guidance) as plain:
            expected = plain.generate("x")
        with load(several, options=GREEDY, guidance=guidance, speculative=f"draft:{SMALL}") as model:
            found = model.generate("x")
            assert (found.text, found.finish_reason) == (expected.text, expected.finish_reason)
            assert found.speculative is not None


def test_a_broken_draft_model_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(SMALL, broken)
    (broken / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(EngineError) as caught:
        drafted(broken)
    assert f"cannot load {broken / 'model.onnx'}" in caught.value.message


def paired(to: Path) -> Path:
    """A folder whose config names a draft model of its own, which the engine would use by itself."""
    shutil.copytree(SMALL, to / "draft")
    small = json.loads((SMALL / "genai_config.json").read_text())["model"]["decoder"]
    shutil.copytree(LARGE, to, dirs_exist_ok=True)
    config = json.loads((to / "genai_config.json").read_text())
    config["model"]["draft"] = small | {"filename": "draft/model.onnx"}
    (to / "genai_config.json").write_text(json.dumps(config))
    return to


@pytest.mark.parametrize("speculative", ["off", "ngram", f"draft:{SMALL}"])
def test_a_folder_that_names_a_draft_model_of_its_own(tmp_path: Path, speculative: str) -> None:
    path = paired(tmp_path / "pair")
    with load(path, options=GREEDY, speculative=speculative) as model, load(LARGE, options=GREEDY) as plain:
        assert model.generate("x", max_tokens=9).text == plain.generate("x", max_tokens=9).text
        found = model.generate("x", guidance=LIST)
        assert (found.text, found.complete) == (plain.generate("x", guidance=LIST).text, True)
        both = [[str(a) for a in one.generate_batch(["x", "y"], max_tokens=5)] for one in (model, plain)]
        assert both[0] == both[1], "one after the other, since the engine takes no batch of it"


GUIDANCES = {
    "letters": Guidance.regex("[a-f]{3}( [a-f]{1,4}){0,6}"),
    "list": LIST,
    "object": Guidance.json_schema(
        {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name", "age"],
        }
    ),
}


def seeded(model: TextGenerator, guidance: Guidance | None) -> list[tuple[str, str, bool | None]]:
    found = [model.generate("List, list, list.", guidance=guidance, seed=seed) for seed in range(4)]
    found += [model.generate("x y x y", guidance=guidance, seed=7, top_p=1.0, top_k=0, repetition_penalty=1.2)]
    found += [model.generate("x", guidance=guidance, temperature=0)]
    return [(one.text, one.finish_reason, one.complete) for one in found]


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize(
    ("folder", "draft"), [(LARGE, SMALL), (LARGE, OTHER), (LONGROPE, LONGROPE), (TOY, TOY)], ids=lambda path: path.name
)
def test_the_same_seed_gives_the_same_guided_answer_with_and_without_draft_tokens(
    folder: Path, draft: Path, guidance: str
) -> None:
    with load(folder, options=SAMPLED) as plain:
        expected = seeded(plain, GUIDANCES[guidance])
    for speculative in ("ngram", f"draft:{draft}"):
        with load(folder, options=SAMPLED, speculative=speculative) as model:
            assert seeded(model, GUIDANCES[guidance]) == expected


@pytest.mark.parametrize("guidance", [None, *GUIDANCES])
@pytest.mark.parametrize("folder", [LARGE, TOY], ids=lambda path: path.name)
def test_the_same_seed_gives_the_same_answer_in_a_batch(folder: Path, guidance: str | None) -> None:
    prompts, follows = ["List, list, list.", "x", "one, two"], GUIDANCES[guidance] if guidance else None
    with load(folder, options=SAMPLED) as model:
        for seed in range(4):
            alone = [model.generate(prompt, guidance=follows, seed=seed) for prompt in prompts]
            found = model.generate_batch(prompts, batch_size=3, guidance=follows, seed=seed)
            assert [(one.text, one.finish_reason, one.complete) for one in found] == [
                (one.text, one.finish_reason, one.complete) for one in alone
            ]


@pytest.mark.parametrize("guidance", [None, *GUIDANCES])
def test_the_same_seed_gives_the_same_answer_on_a_provider_that_restarts(
    guidance: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    follows = GUIDANCES[guidance] if guidance else None
    with load(LARGE, options=SAMPLED) as model:
        expected = seeded(model, follows)
    monkeypatch.setattr(genai, "RESTARTING", {"cpu"})
    for speculative in ("off", "ngram"):
        with load(LARGE, options=SAMPLED, speculative=speculative) as model:
            assert seeded(model, follows) == expected
