"""Models that cannot be batched: with scores of the last token only (`prune_lm_head`), which is padding in a shorter
prompt, or with a sliding window."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli import GenerationOptions, Guidance, Notice, TextGenerator, load
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import GenaiModel
from lmsupply_cli.errors import EngineError, UsageError
from lmsupply_cli.generation.batch import BatchListener, BatchRunner

MODELS = Path(__file__).parent.parent / "models"
LAST, ALL = MODELS / "last", MODELS / "toy"
OPTIONS = GenerationOptions(temperature=0, repetition_penalty=1.0, max_tokens=9)
PATTERN = Guidance.regex("[a-z]{4}")
WHY = "this model returns scores only for the last token"


def raw(model: TextGenerator, prompt: str, guidance: Guidance | None = None) -> tuple[str, list[str]]:
    events = list(model.stream(prompt, raw=True, guidance=guidance))
    text = "".join(getattr(event, "text", "") for event in events if not isinstance(event, Notice))
    return text, [event.text for event in events if isinstance(event, Notice)]


def test_a_batch_is_answered_one_after_the_other_and_rightly() -> None:
    prompts = ["a long prompt, of many more tokens, up to 3", "abc", "x"]
    with load(LAST, options=OPTIONS) as model, load(ALL, options=OPTIONS) as other:
        for guidance in (None, PATTERN):
            expected = [str(model.generate(prompt, guidance=guidance)) for prompt in prompts]
            assert [str(a) for a in model.generate_batch(prompts, batch_size=3, guidance=guidance)] == expected
            assert [str(a) for a in other.generate_batch(prompts, batch_size=3, guidance=guidance)] == expected
        said: list[Notice] = []
        listener = BatchListener()
        listener.notice = said.append  # type: ignore[method-assign]
        runner = BatchRunner(model, size=3, listener=listener)
        assert runner.size == 1
        runner.choose([])
        assert [notice.text for notice in said] == [f"prompts are answered one at a time: {WHY}"]
        with pytest.raises(EngineError, match=WHY):
            model.model.new_batch([[1, 2], [3]], capacity_tokens=16)


@pytest.mark.parametrize("speculative", ["ngram", f"draft:{ALL}"])
def test_there_are_no_draft_tokens_and_that_is_said(speculative: str) -> None:
    with load(LAST, options=OPTIONS) as plain, load(LAST, options=OPTIONS, speculative=speculative) as model:
        for guidance in (None, PATTERN):
            expected, _ = raw(plain, "abcabc", guidance)
            text, notes = raw(model, "abcabc", guidance)
            assert text == expected
            assert notes == ([f"speculative decoding is off: {WHY}"] if guidance is None else []), "said once"


def test_such_a_model_drafts_as_any_other() -> None:
    with load(ALL, options=OPTIONS) as plain, load(ALL, options=OPTIONS, speculative=f"draft:{LAST}") as model:
        assert raw(model, "abc") == raw(plain, "abc") == ("defghijkl", [])
        stats = model.generate("abc", raw=True).speculative
        assert stats is not None
        assert stats.accepted == stats.proposed > 0


@pytest.mark.parametrize(("large", "small"), [(LAST, ALL), (ALL, LAST)])
def test_with_a_draft_model_in_a_guided_answer(large: Path, small: Path) -> None:
    with load(large, options=OPTIONS) as plain:
        expected, _ = raw(plain, "abc", PATTERN)
    with load(large, options=OPTIONS, guidance=PATTERN, speculative=f"draft:{small}") as model:
        notes = [f"speculative decoding is off: {WHY}"] if large == LAST else []
        assert raw(model, "abc") == (expected, notes)


def test_a_sliding_window_takes_prompts_of_one_length_only() -> None:
    prompts = ["a long prompt, of many more tokens than the window of this model holds, and then some", "abc", "x"]
    with load(MODELS / "gemma2", options=OPTIONS) as model:
        assert model.model.batching_blocker() == "the engine takes only prompts of one length for this model"
        expected = [str(model.generate(prompt)) for prompt in prompts]
        assert [str(answer) for answer in model.generate_batch(prompts, batch_size=3)] == expected


def test_a_sliding_window_excludes_a_buffer_that_is_not_shared_and_no_beams() -> None:
    with load(MODELS / "gemma2", options=OPTIONS) as model:
        with pytest.raises(UsageError, match="this model has a sliding window"):
            model.generate("x", past_present_share_buffer=False)
        assert model.generate("x", num_beams=2).text
        assert model.generate("x", past_present_share_buffer=True).text == model.generate("x").text


def test_what_a_decoder_says_of_it() -> None:
    with GenaiModel(open_folder(LAST)) as model:
        decoder = model.new_decoder(capacity_tokens=16)
        decoder.append([1, 2, 3])
        assert int(decoder.wide_logits(1)[0].argmax()) == 4
        with pytest.raises(EngineError, match=WHY) as caught:
            decoder.wide_logits(2)
        assert caught.value.hint == "`speculative=off`"
