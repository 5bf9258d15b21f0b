"""Turns, batches, caches and cancels in the process of a model, on a scripted model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scheduler_run import Said, Worker, answers, chat, in_turn

from lmsupply_cli import ChatMessage, ContextOverflow, EngineError, Guidance, TextGenerator, ToolSpec, UsageError
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.formats.families import ChatML, Qwen
from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.engine.base import PREFILL_CHUNK
from lmsupply_cli.engine.fake import EOS, FakeModel, replies
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.events import Finished, PrefillProgress, TextDelta
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.memory.shape import MemoryShape
from lmsupply_cli.serving.frames import Ask, Cancel, Close, Count, Counted, Happened
from lmsupply_cli.serving.requests import AnswerRequest
from lmsupply_cli.serving.scheduler import Unusable

SHAPE = MemoryShape(1, 1, 1, 1, 300, 4000, 1, 1)  # two bytes a token


class Watched(FakeModel):
    """Counts its batches."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.batches: list[int] = []
        self.blocker: str | None = None

    def new_batch(self, prompts: Sequence[Sequence[int]], **more: Any) -> Any:
        self.batches.append(len(prompts))
        return super().new_batch(prompts, **more)

    def batching_blocker(self) -> str | None:
        return self.blocker


def scripted(
    *answers: str, context: int = 4000, script: Any = None, format: Any = None, batches: bool = True
) -> TextGenerator:
    info = ModelInfo("fake", None, UNKNOWN_LICENSE, "cpu", 1, context)
    model = Watched(script or replies(*answers), context_length=context)
    model.blocker = None if batches else "not in this test"
    found = TextGenerator(model, format or ChatML(), info, options=GenerationOptions(temperature=0, max_tokens=100))
    found.memory_shape = SHAPE
    return found


def test_an_answer_is_what_the_generator_says() -> None:
    request = chat("x", options={"max_tokens": 4})
    said = answers(scripted("an answer"), request)
    alone = scripted("an answer").generate("x", max_tokens=4)
    found = said.answer(1)
    assert (found.text, found.finish_reason, found.usage) == (alone.text, alone.finish_reason, alone.usage)
    assert said.accepted == {1: alone.usage.prompt_tokens}


def test_answers_take_turns_token_by_token() -> None:
    said = answers(scripted("abcdefgh", batches=False), chat("x"), chat("y"), slots=2)
    order = said.order()
    assert {said.answer(1).text, said.answer(2).text} == {"abcdefgh"}
    assert all(one != two for one, two in pairwise(order))


def test_a_token_that_shows_nothing_is_a_turn_too() -> None:
    stop = "abcdefgZ"  # the whole answer could begin it
    held, other = chat("x", options={"stop": (stop,)}), chat("y")
    said = answers(scripted("abcdefgh", batches=False), held, other, slots=2)
    assert said.answer(1).text == said.answer(2).text == "abcdefgh"
    first = next(at for at, id in enumerate(said.order()) if id == 1)
    assert said.order()[:first].count(2) >= 6, "the other one went on meanwhile"


def test_a_long_prompt_is_read_in_pieces_between_the_tokens_of_others() -> None:
    model = scripted("abcdefghijklmnop", batches=False)
    worker = Worker(model, slots=2)
    worker.left = {1, 2}
    worker.inbox.put(Ask(1, chat("x")))

    def react(frame: Any) -> None:
        if frame == Happened(1, (TextDelta("a"),)):
            worker.inbox.put(Ask(2, chat("y" * 5 * PREFILL_CHUNK)))

    said = worker.run(react)
    reading = [f.id for f in said.frames if isinstance(f, Happened)]
    begun = reading.index(2)
    pieces = [
        f for f in said.frames if isinstance(f, Happened) and isinstance(f.events[0], PrefillProgress) and f.id == 2
    ]
    assert len(pieces) >= 6
    between = reading[begun : begun + 10]
    assert all(one != two for one, two in pairwise(between))


def test_no_more_than_the_slots_run_at_once_and_the_first_comes_first() -> None:
    said = answers(scripted("abcdef", batches=False), *(chat(text) for text in "xyz"), slots=1)
    assert said.order() == [1] * 6 + [2] * 6 + [3] * 6


@pytest.mark.parametrize("stage", ["waiting", "prefill", "decode"])
def test_a_cancel_works_at_every_stage_within_one_step(stage: str) -> None:
    model = scripted("abcdefghijkl", batches=False)
    worker = Worker(model, slots=1)
    worker.ask(1, chat("y" * 4 * PREFILL_CHUNK))
    worker.ask(2, chat("z"))

    def react(frame: Any) -> None:
        if isinstance(frame, Happened) and frame.id == 1:
            at = frame.events[0]
            if stage == "waiting" and isinstance(at, PrefillProgress) and at.done_tokens == 0:
                worker.cancel(2, waits=True)
            if stage == "prefill" and isinstance(at, PrefillProgress) and at.done_tokens == PREFILL_CHUNK:
                worker.cancel(1)
            if stage == "decode" and at == TextDelta("c"):
                worker.cancel(1)

    said = worker.run(react)
    if stage == "waiting":
        assert said.accepted.keys() == {1}
        assert said.answer(1).text == "abcdefghijkl"
        return
    found = said.answer(1)
    assert found.finish_reason == "cancelled"
    assert found.text == ("" if stage == "prefill" else "abc")
    done = [e.done_tokens for e in said.events[1] if isinstance(e, PrefillProgress)]
    assert max(done) == (PREFILL_CHUNK if stage == "prefill" else said.accepted[1])
    assert said.answer(2).text == "abcdefghijkl"


def test_a_cancel_of_what_is_over_or_unknown_does_nothing() -> None:
    worker = Worker(scripted("ab"))
    worker.ask(1, chat("x"))
    worker.inbox.put(Cancel(7))

    def react(frame: Any) -> None:
        if isinstance(frame, Happened) and isinstance(frame.events[-1], Finished):
            worker.inbox.put(Cancel(1))

    assert worker.run(react).answer(1).text == "ab"


def test_what_cannot_be_answered_is_refused_and_nothing_else() -> None:
    said = answers(
        scripted("ab", context=200),
        chat("x" * 300),
        chat("x", options={"temperature": -1}),
        AnswerRequest(),
        AnswerRequest(ids=(5, 9999)),
        AnswerRequest(text="x", tools=(ToolSpec("look"),)),
        chat("x", guidance=Guidance("regex", "[")),
        chat("x", tools=(ToolSpec("look"),), tool_choice="jump"),
        chat("x"),
    )
    assert isinstance(said.failed.pop(1), ContextOverflow)
    assert said.failed.keys() == set(range(2, 8))
    assert all(isinstance(error, UsageError) for error in said.failed.values())
    assert said.failed[5].param == "tools"  # type: ignore[attr-defined]
    assert said.answer(8).text == "ab"


def test_raw_texts_and_ids_are_answered_without_a_chat_format() -> None:
    model = scripted(script=lambda ids: (ids[-1] + 1) % 256)
    more = {"options": {"max_tokens": 3}}
    said = answers(model, AnswerRequest(text="ab", **more), AnswerRequest(ids=(97, 98), **more))  # type: ignore[arg-type]
    assert said.answer(1).text == said.answer(2).text == "cde"
    assert said.accepted == {1: 2, 2: 2}


def test_thinking_is_set_for_one_request_or_refused() -> None:
    model = scripted("a", format=PromptFormat(Qwen(can_think=True)))
    wish = chat("x", reasoning_effort="low", thinking_is_wish=True)
    said = answers(model, chat("x", enable_thinking=False), chat("x"), chat("x", reasoning_effort="low"), wish)
    assert said.accepted[1] > said.accepted[2]  # an empty thought
    assert "reasoning_effort" in said.failed[3].message
    assert said.failed[3].param == "reasoning_effort"  # type: ignore[attr-defined]
    assert 4 not in said.failed


def test_tokens_are_counted_for_prompts_that_do_not_fit_too() -> None:
    worker = Worker(scripted("a", context=50))
    worker.inbox.put(Count(1, AnswerRequest(text="x" * 70)))
    worker.inbox.put(Count(2, AnswerRequest(text="a", ids=(1,))))
    worker.ask(3, chat("x"))
    said = worker.run()
    assert [f for f in said.frames if isinstance(f, Counted)] == [Counted(1, 70)]
    assert isinstance(said.failed[2], UsageError)


def cached(said: Said, id: int) -> int:
    return said.answer(id).usage.cached_tokens


def test_a_conversation_that_continues_reads_what_is_new() -> None:
    first, second = "tell me " * 20, "and now?"
    said = in_turn(scripted("one", "two"), chat(first), chat(first, "one", second))
    assert cached(said, 1) == 0
    assert said.accepted[2] - cached(said, 2) <= len(second) + 40
    assert cached(said, 2) >= len(first)


def test_conversations_keep_caches_of_their_own() -> None:
    """Their turns alternate."""
    a, b = "a" * 150, "b" * 150
    said = in_turn(
        scripted("one", "two", "three"),
        chat(a), chat(b), chat(a, "one", "x"), chat(b, "one", "x"), chat(a, "one", "x", "two", "y"),
    )  # fmt: skip
    assert [cached(said, id) > 150 for id in range(1, 6)] == [False, False, True, True, True]


def test_a_system_prompt_that_all_share_is_read_once() -> None:
    system = ChatMessage.system("s" * 400)
    requests = [AnswerRequest(messages=(system, ChatMessage.user(text * 30))) for text in "abcd"]
    said = in_turn(scripted("one"), *requests)
    assert cached(said, 1) == 0
    assert all(cached(said, id) >= 400 for id in (2, 3, 4))


def test_requests_at_the_same_time_wait_for_the_one_that_reads_what_they_share() -> None:
    system = ChatMessage.system("s" * 400)
    requests = [AnswerRequest(messages=(system, ChatMessage.user(text * 30))) for text in "abc"]
    said = answers(scripted("one", batches=False), *requests, chat("x"), slots=3)
    assert [cached(said, id) >= 400 for id in (1, 2, 3)] == [False, True, True]
    ends = [f.id for f in said.frames if isinstance(f, Happened) and isinstance(f.events[-1], Finished)]
    assert ends[0] == 4, "one that shares nothing does not wait"


def test_they_wait_no_longer_than_reading_takes() -> None:
    system = ChatMessage.system("s" * 400)
    requests = [AnswerRequest(messages=(system, ChatMessage.user(text * 30))) for text in "ab"]
    seconds = iter(range(10**6))
    said = answers(scripted("long " * 19, batches=False), *requests, clock=lambda: float(next(seconds)), slots=2)
    order = said.order()
    assert cached(said, 2) == 0
    assert 5 < order.index(2) < 80, "after a while, and before the first one's end"


def test_one_that_returns_after_it_lost_its_cache_gets_one_of_its_own() -> None:
    """Two conversations under one system prompt, in turns: at first one takes over the other's cache."""
    system = ChatMessage.system("s" * 400)

    def asked(*texts: str) -> AnswerRequest:
        return AnswerRequest(messages=(system, *chat(*texts).messages))

    a, b = "a" * 200, "b" * 200
    said = in_turn(
        scripted("one", "two", "three"),
        asked(a), asked(b), asked(a, "one", "x"), asked(b, "one", "x"), asked(a, "one", "x", "two", "y"),
    )  # fmt: skip
    assert 400 <= cached(said, 2) < 600
    assert cached(said, 3) == 0, "read once more, into a new one"
    assert cached(said, 4) > 600
    assert cached(said, 5) > 600


def test_the_same_prompt_again_takes_its_cache() -> None:
    said = in_turn(scripted("a long answer"), chat("x"), chat("x"))
    assert cached(said, 2) == said.accepted[2] - 4


def test_the_budget_evicts_what_was_used_longest_ago() -> None:
    a, b, c = ("a" * 300, "b" * 300, "c" * 300)
    room = 2 * SHAPE.cache_bytes(2600)  # with room for more turns
    said = in_turn(
        scripted("one", "two"), chat(a), chat(b), chat(c), chat(b, "one", "x"), chat(a, "one", "x"), cache_bytes=room
    )
    assert [cached(said, id) > 300 for id in range(1, 6)] == [False, False, False, True, False]


def test_a_budget_that_is_too_small_for_anything_still_answers() -> None:
    said = in_turn(scripted("one"), chat("x"), chat("y" * 90), cache_bytes=0)
    assert [said.answer(id).text for id in (1, 2)] == ["one", "one"]


def test_requests_that_wait_together_are_answered_in_a_batch() -> None:
    model = scripted("abc")
    said = answers(model, *(chat(text) for text in "wxyz"))
    assert model.model.batches == [4]  # type: ignore[attr-defined]
    assert [said.answer(id).text for id in range(1, 5)] == ["abc"] * 4
    assert said.order()[:4] == [1, 2, 3, 4], "streamed step by step"


def test_rows_have_their_own_options() -> None:
    said = answers(
        scripted("abcdef"),
        chat("w", options={"max_tokens": 2}),
        chat("x", options={"stop": ("d",)}),
        chat("y", guidance=Guidance.regex("z{3}")),
        chat("z", options={"top_logprobs": 2}),
    )
    found = [said.answer(id) for id in range(1, 5)]
    assert [one.text for one in found] == ["ab", "abc", "zzz", "abcdef"]
    assert [one.finish_reason for one in found] == ["length", "stop", "stop", "stop"]
    assert [one.complete for one in found] == [None, None, True, None]
    assert len(found[3].logprobs) == 6
    ends = [said.events[id][-1] for id in range(1, 5)]
    assert [end.stop_sequence for end in ends if isinstance(end, Finished)] == [None, "d", None, None]


def test_a_row_can_be_cancelled_and_the_others_go_on() -> None:
    model = scripted("abcdef")
    worker = Worker(model)
    for id in (1, 2, 3):
        worker.ask(id, chat("x" * id))

    def react(frame: Any) -> None:
        if isinstance(frame, Happened) and frame.events == (TextDelta("b"),) and frame.id == 3:
            worker.cancel(2)

    said = worker.run(react)
    assert model.model.batches == [3]  # type: ignore[attr-defined]
    assert [said.answer(id).text for id in (1, 2, 3)] == ["abcdef", "ab", "abcdef"]
    assert said.answer(2).finish_reason == "cancelled"


def test_what_does_not_belong_in_a_batch_is_answered_alone() -> None:
    model = scripted("abc")
    tool = ToolSpec("look")
    said = answers(model, chat("w", tools=(tool,)), chat("x", options={"num_beams": 2}), chat("y"))
    assert model.model.batches == []  # type: ignore[attr-defined]
    assert said.ended == {1, 2, 3}


def test_a_row_that_is_wrong_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    model = scripted("abc")
    real = model.model.new_matcher

    def refuses(guidance: Guidance) -> Any:
        if guidance.text == "b":
            raise UsageError("this model cannot")
        return real(guidance)

    monkeypatch.setattr(model.model, "new_matcher", refuses)
    said = answers(model, chat("x"), chat("y", guidance=Guidance.regex("b")), chat("z"))
    assert said.failed.keys() == {2}
    assert [said.answer(id).text for id in (1, 3)] == ["abc", "abc"]


def test_a_batch_that_the_engine_does_not_take_is_answered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise EngineError("the engine ran out of memory")

    model = scripted("abc")
    monkeypatch.setattr(model.model, "new_batch", fails)
    said = answers(model, chat("x"), chat("y"))
    assert [said.answer(id).text for id in (1, 2)] == ["abc", "abc"]


def test_a_parent_that_is_gone_ends_everything() -> None:
    worker = Worker(scripted("abc"))
    worker.ask(1, chat("x"))

    def react(frame: Any) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        worker.run(react)


def test_an_answer_that_fails_does_not_end_the_others() -> None:
    script = replies("abcdef")
    broken = [True]

    def fails(tokens: Sequence[int]) -> int:
        token = script(tokens)
        if token == ord("c") and broken and b"y" in bytes(t for t in tokens if t < 256):
            broken.clear()
            raise EngineError("it broke")
        return token

    said = answers(scripted(script=fails, batches=False), chat("x"), chat("y"), chat("y" * 3), slots=3)
    assert {str(error) for error in said.failed.values()} == {"it broke"}
    assert len(said.failed) == 1
    assert all(said.answer(id).text == "abcdef" for id in {1, 2, 3} - said.failed.keys())


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError("a bug")])
def test_other_errors_are_errors_of_the_answer(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    script, broken = replies("abc"), [True]

    def fails(tokens: Sequence[int]) -> int:
        if broken:
            broken.clear()
            raise error
        return script(tokens)

    said = answers(scripted(script=fails, batches=False), chat("x"), chat("y"), slots=1)
    assert isinstance(said.failed[1], EngineError)
    assert said.answer(2).text == "abc"
    assert ("ZeroDivisionError" in capsys.readouterr().err) == isinstance(error, ZeroDivisionError)


def test_an_engine_that_does_not_work_any_more_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(tokens: Sequence[int]) -> int:
        monkeypatch.setattr(model.model, "new_decoder", lambda **_: (_ for _ in ()).throw(EngineError("gone")))
        raise EngineError("it broke")

    model = scripted(script=fails)
    with pytest.raises(Unusable):
        answers(model, chat("x"))


def test_closing_finishes_what_runs_and_refuses_what_waits() -> None:
    worker = Worker(scripted("abcdef", batches=False), slots=1)
    worker.ask(1, chat("x"))
    worker.ask(2, chat("y"))

    def react(frame: Any) -> None:
        if frame == Happened(1, (TextDelta("a"),)):
            worker.inbox.put(Close())

    said = worker.run(react)
    assert said.answer(1).text == "abcdef"
    assert "unloaded" in said.failed[2].message


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_is_asked_and_cancelled_every_request_ends_once(data: st.DataObject) -> None:
    slots = data.draw(st.integers(1, 3))
    count = data.draw(st.integers(1, 6))
    model = scripted("abcdefgh", batches=data.draw(st.booleans()))
    worker = Worker(model, slots=slots, cache_bytes=data.draw(st.sampled_from([0, 500, 2000, 10**6])))
    texts = [data.draw(st.sampled_from(["x", "yy", "z" * 90, "x" * 200])) for _ in range(count)]
    when = {id: data.draw(st.integers(0, 12) | st.none()) for id in range(1, count + 1)}
    cancelled = set[int]()
    for id, text in enumerate(texts, start=1):
        worker.ask(id, chat(text))

    def react(frame: Any) -> None:
        for id, after in when.items():
            if after is not None and id not in cancelled and len(worker.said.frames) > after:
                cancelled.add(id)
                begun = id in worker.said.accepted
                worker.cancel(id)
                if not begun:
                    worker.left.discard(id)  # it may have begun by then, or is never heard of again

    said = worker.run(react)
    assert said.ended == said.accepted.keys()
    assert said.ended | cancelled == set(range(1, count + 1))
    for id in said.ended:
        found = said.answer(id)
        assert "abcdefgh".startswith(found.text)
        assert found.finish_reason == (
            "stop" if found.text == "abcdefgh" and id not in cancelled else found.finish_reason
        )
        if id not in cancelled:
            assert (found.text, found.finish_reason) == ("abcdefgh", "stop")
    assert EOS  # the answers end by themselves
