"""What every engine must do: the fake and the real one pass the same tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli.engine import genai
from lmsupply_cli.engine.base import Decoder, TextModel
from lmsupply_cli.engine.batch import Row, stream_batch
from lmsupply_cli.engine.beams import beam_search
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.ending import Ending
from lmsupply_cli.engine.fake import FakeModel
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import GenaiModel
from lmsupply_cli.engine.generate import Task, stream_events, stream_tokens
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.prefill import Run, prefill
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.errors import DoesNotFit, EngineError, UsageError
from lmsupply_cli.events import Finished, PrefillProgress, TextDelta

GREEDY = GenerationOptions(temperature=0, repetition_penalty=1.0)


@pytest.fixture(params=["fake", "real", "restarting"])
def model(request: pytest.FixtureRequest, toy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TextModel]:
    """`restarting`: the real engine, used as on a provider that cannot go on with a generator."""
    if request.param == "restarting":
        monkeypatch.setattr(genai, "RESTARTING", {"cpu"})
    made: TextModel = FakeModel() if request.param == "fake" else GenaiModel(open_folder(toy))
    yield made
    made.close()


def next_token(decoder: Decoder) -> int:
    return int(decoder.logits().argmax())


def test_it_is_a_text_model(model: TextModel) -> None:
    assert isinstance(model, TextModel)
    decoder = model.new_decoder(capacity_tokens=16)
    assert isinstance(decoder, Decoder)
    assert model.shape.vocabulary == 300
    assert model.shape.eos_ids == {258}


def test_tokens_are_what_was_appended(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=16)
    assert list(decoder.tokens) == []
    decoder.append([10, 11, 12])
    assert list(decoder.tokens) == [10, 11, 12]
    assert decoder.logits().shape == (300,)
    assert next_token(decoder) == 13
    decoder.append([50])
    assert list(decoder.tokens) == [10, 11, 12, 50]
    assert next_token(decoder) == 51


def test_logits_need_an_append(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=16)
    with pytest.raises(RuntimeError, match="after an append"):
        decoder.logits()
    decoder.append([10, 11])
    decoder.rewind(1)
    with pytest.raises(RuntimeError, match="after an append"):
        decoder.logits()


def test_rewind_then_append_equals_a_fresh_sequence(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=16)
    decoder.append([10, 11, 12, 13])
    decoder.rewind(2)
    assert list(decoder.tokens) == [10, 11]
    decoder.append([70])
    assert list(decoder.tokens) == [10, 11, 70]
    assert next_token(decoder) == 71
    decoder.rewind(0)
    assert list(decoder.tokens) == []
    decoder.append([5])
    assert next_token(decoder) == 6


@pytest.mark.parametrize("count", [-1, 3])
def test_a_rewind_out_of_range_is_refused(model: TextModel, count: int) -> None:
    decoder = model.new_decoder(capacity_tokens=16)
    decoder.append([10, 11])
    with pytest.raises(ValueError, match="cannot rewind"):
        decoder.rewind(count)


@pytest.mark.parametrize("ids", [[], [300], [-1]])
def test_bad_ids_are_refused_and_change_nothing(
    model: TextModel, ids: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    decoder = model.new_decoder(capacity_tokens=16)
    decoder.append([10])
    with pytest.raises(ValueError, match="token"):
        decoder.append(ids)
    assert list(decoder.tokens) == [10]
    assert capfd.readouterr().err == ""


def test_more_than_the_capacity_does_not_fit(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=4)
    decoder.append([1, 2, 3])
    with pytest.raises(DoesNotFit):
        decoder.append([4, 5])
    assert list(decoder.tokens) == [1, 2, 3]
    decoder.append([4])
    assert next_token(decoder) == 5


def test_a_closed_decoder_and_model_say_so(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=4)
    decoder.close()
    decoder.close()
    with pytest.raises(EngineError, match="closed"):
        decoder.append([1])
    model.close()
    model.close()
    with pytest.raises(EngineError, match="closed"):
        model.new_decoder(capacity_tokens=4)


def test_text_encodes_and_decodes(model: TextModel) -> None:
    text = "Grüße, 日本語 🏳️\n"
    assert model.encode(text) == list(text.encode())
    assert model.decode(model.encode(text)) == text
    assert model.encode("a<|im_end|>b") == [97, 258, 98]
    assert {model.token_text(token) for token in model.hidden_ids} == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert [model.token_text(token) for token in (97, 0xE6)] == ["a", "\ufffd"]
    assert model.decode([97, 258, 98]) == "ab"
    assert model.encode("") == []


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d pair"])
def test_text_the_engine_would_cut_is_refused(model: TextModel, text: str) -> None:
    with pytest.raises(UsageError):
        model.encode(text)


def test_prefill_goes_in_chunks_and_reuses_the_prefix(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=64)
    run, ids = Run(), list(range(10, 50))
    progress = list(prefill(decoder, ids, run=run, cancel=CancelToken(), chunk=16))
    assert [p.done_tokens for p in progress] == [0, 16, 32, 40]
    assert list(decoder.tokens) == ids
    changed = [*ids[:30], 99, 98]
    progress = list(prefill(decoder, changed, run=run, cancel=CancelToken(), chunk=16))
    assert run.cached_tokens == 28
    assert [p.done_tokens for p in progress] == [28, 32]
    assert list(decoder.tokens) == changed
    list(prefill(decoder, changed, run=run, cancel=CancelToken()))  # the same again: its end is read anew
    assert run.cached_tokens == 28
    assert next_token(decoder) == 99


def test_a_cancelled_prefill_leaves_a_usable_decoder(model: TextModel) -> None:
    decoder, cancel = model.new_decoder(capacity_tokens=64), CancelToken()
    ids = list(range(10, 50))
    for progress in prefill(decoder, ids, run=Run(), cancel=cancel, chunk=16):
        if progress.done_tokens == 16:
            cancel.cancel()
    assert list(decoder.tokens) == ids[:16]
    list(prefill(decoder, ids, run=Run(), cancel=CancelToken()))
    assert list(decoder.tokens) == ids


def test_tokens_stop_at_the_end_token_which_is_not_kept(model: TextModel) -> None:
    decoder, run = model.new_decoder(capacity_tokens=64), Run()
    list(prefill(decoder, [254], run=run, cancel=CancelToken()))
    sampler = Sampler(GREEDY, vocabulary=300, eos_ids=model.shape.eos_ids)
    found = list(stream_tokens(decoder, sampler, ending=Ending(20, {258}), run=run))
    assert found == [255, 256, 257]
    assert run.finish_reason == "stop"
    assert list(decoder.tokens) == [254, 255, 256, 257]


def test_an_abandoned_answer_leaves_the_cache_true(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=64)
    events = stream_events(model, decoder, Task([10, 11], GREEDY))
    for event in events:
        if isinstance(event, TextDelta):
            break
    events.close()  # type: ignore[attr-defined]
    tokens = list(decoder.tokens)
    assert tokens == list(range(10, 10 + len(tokens)))
    done = list(stream_events(model, decoder, Task([10, 11, 40], GREEDY.replaced(max_tokens=3))))
    assert [e.text for e in done if isinstance(e, TextDelta)] == [")", "*", "+"]
    assert list(decoder.tokens) == [10, 11, 40, 41, 42]


def test_events_end_with_an_honest_account(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=64)
    *_, last = stream_events(model, decoder, Task([60, 61, 62, 63, 64, 65], GREEDY.replaced(max_tokens=5)))
    assert isinstance(last, Finished)
    assert last.finish_reason == "length"
    assert (last.usage.prompt_tokens, last.usage.cached_tokens, last.usage.completion_tokens) == (6, 0, 5)
    assert 0 < last.timings.prefill_s <= last.timings.ttft_s
    *_, last = stream_events(model, decoder, Task([60, 61, 62, 63, 64, 65, 66], GREEDY.replaced(max_tokens=1)))
    assert isinstance(last, Finished)
    assert last.usage.cached_tokens == 3


def test_a_full_context_ends_the_answer_with_length(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=8)
    events = list(stream_events(model, decoder, Task([64, 65, 66, 67, 68], GREEDY)))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "EFG"
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason == "length"


def test_a_prompt_that_fills_the_context_does_not_fit(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=4)
    with pytest.raises(DoesNotFit, match="4 tokens; the context has 4"):
        list(stream_events(model, decoder, Task([64, 65, 66, 67], GREEDY)))
    assert list(decoder.tokens) == []


def test_stop_sequences_end_the_answer_and_are_not_shown(model: TextModel) -> None:
    decoder = model.new_decoder(capacity_tokens=64)
    task = Task([64], GREEDY.replaced(stop=("EF", "zz")), stop=("D",))
    events = list(stream_events(model, decoder, task))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "ABC"
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason == "stop"


def test_cancelling_during_the_answer_ends_it(model: TextModel) -> None:
    decoder, cancel, seen = model.new_decoder(capacity_tokens=64), CancelToken(), []
    for event in stream_events(model, decoder, Task([64], GREEDY), cancel=cancel):
        seen.append(event)
        if isinstance(event, TextDelta) and event.text == "C":
            cancel.cancel()
    assert isinstance(seen[-1], Finished)
    assert seen[-1].finish_reason == "cancelled"
    assert "".join(e.text for e in seen if isinstance(e, TextDelta)) == "ABC"
    assert isinstance(seen[0], PrefillProgress)


def test_beam_search_finds_the_only_way(model: TextModel) -> None:
    options = GREEDY.replaced(num_beams=2, max_tokens=4)
    decoder = model.new_decoder(capacity_tokens=64)
    assert beam_search(decoder, [64, 65], num_beams=2, ending=Ending(4, {258}))[0].tokens == (66, 67, 68, 69)
    assert beam_search(decoder, [254, 255], num_beams=2, ending=Ending(20, {258}))[0].tokens == (256, 257)
    events = list(stream_events(model, decoder, Task([64, 65], options)))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "BCDE"
    assert isinstance(events[-1], Finished)
    assert events[-1].finish_reason == "length"


@pytest.mark.parametrize(
    ("options", "text", "reason", "complete"),
    [
        ({"max_tokens": 1}, "A", "length", False),
        ({"max_tokens": 3}, "ABC", "length", True),
        ({"stop": "B"}, "A", "stop", False),
        ({"stop": "D"}, "ABC", "stop", True),
        ({"stop": "BC"}, "A", "stop", False),  # what is shown counts, not what was read
    ],
)
def test_an_answer_that_was_cut_is_complete_only_if_the_guidance_accepts_it(
    model: TextModel, options: dict[str, Any], text: str, reason: str, complete: bool
) -> None:
    decoder, matcher = model.new_decoder(capacity_tokens=64), model.new_matcher(Guidance.regex("[A-Z]{2,}"))
    events = list(stream_events(model, decoder, Task([64], GREEDY.replaced(**options), matcher=matcher)))
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == text
    assert isinstance(events[-1], Finished)
    assert (events[-1].finish_reason, events[-1].complete) == (reason, complete)


def test_without_a_guidance_nothing_is_said_of_completeness(model: TextModel) -> None:
    *_, last = stream_events(model, model.new_decoder(capacity_tokens=16), Task([64], GREEDY.replaced(max_tokens=2)))
    assert isinstance(last, Finished)
    assert last.complete is None


def test_a_row_of_a_batch_is_complete_only_if_the_guidance_accepts_it(model: TextModel) -> None:
    if blocker := model.batching_blocker():
        pytest.skip(blocker)
    guidance = Guidance.regex("[A-Z]{2,}")
    cuts: list[dict[str, Any]] = [{"max_tokens": 1}, {"max_tokens": 3}, {"stop": "B"}, {"stop": "D"}]
    rows = [Row(Task([64], GREEDY.replaced(**cut), matcher=model.new_matcher(guidance))) for cut in cuts]
    events = [event for step in stream_batch(model, rows, capacity_tokens=32) for event in step]
    texts = ["".join(e.text for n, e in events if n == row and isinstance(e, TextDelta)) for row in range(len(rows))]
    complete = {number: event.complete for number, event in events if isinstance(event, Finished)}
    assert texts == ["A", "ABC", "A", "ABC"]
    assert complete == {0: False, 1: True, 2: False, 3: True}


def test_the_end_of_an_answer_may_come_where_the_guidance_is_done_and_nowhere_else(model: TextModel) -> None:
    """The model wants to end after 257."""
    decoder = model.new_decoder(capacity_tokens=64)
    *events, last = stream_events(model, decoder, Task([257], GREEDY, matcher=model.new_matcher(Guidance.regex("a?"))))
    assert [e for e in events if isinstance(e, TextDelta)] == []
    assert isinstance(last, Finished)
    assert (last.finish_reason, last.complete, last.usage.completion_tokens) == ("stop", True, 0)
    decoder = model.new_decoder(capacity_tokens=64)
    *events, last = stream_events(
        model, decoder, Task([257], GREEDY, matcher=model.new_matcher(Guidance.regex("a{3}")))
    )
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "aaa"
    assert isinstance(last, Finished)
    assert (last.finish_reason, last.complete) == ("stop", True)
