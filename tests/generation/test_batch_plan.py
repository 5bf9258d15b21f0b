"""In a batch or one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli import ChatMessage, Completion, Notice, Timings, Usage, load
from lmsupply_cli.generation.batch import BatchItem, BatchListener, BatchRunner
from lmsupply_cli.generation.batch_plan import BatchPlan, BatchPlanner

MODEL = str(Path(__file__).parent.parent / "models" / "llama-fp32")
READ_S, WRITE_S = 0.005, 0.02  # of a token


def prompts(shared: int, own: int, count: int = 8) -> list[list[int]]:
    return [[*range(shared), *(1000 * (n + 1) + at for at in range(own))] for n in range(count)]


def answer(written: int, *, read: int = 100, read_s: float = READ_S, write_s: float = WRITE_S) -> Completion:
    timings = Timings(prefill_s=read * read_s, decode_s=written * write_s)
    return Completion("", "stop", Usage(read, 0, written), timings)


def after(*lengths: int, batch_read: float = 1.0, batch_write: float = 0.0) -> BatchPlanner:
    """A planner that has seen answers of such lengths, and a batch whose tokens cost so many times those alone."""
    planner = BatchPlanner()
    if batch_write:
        planner.record_batch([answer(9, read_s=8 * READ_S * batch_read, write_s=8 * WRITE_S * batch_write)] * 8)
    for length in lengths:
        planner.record(answer(length))
    return planner


def test_prompts_that_share_little_go_together_from_the_first() -> None:
    assert BatchPlanner().choose(prompts(shared=12, own=40)) == BatchPlan(8, together=True)


def test_where_they_share_much_the_first_answer_tells() -> None:
    assert BatchPlanner().choose(prompts(shared=500, own=40)) == BatchPlan(1, together=False)
    assert BatchPlanner().choose(prompts(shared=0, own=40), cached_tokens=39) == BatchPlan(1, together=False)


@pytest.mark.parametrize(
    ("write", "shared", "own", "lengths", "together"),
    [
        (0.4, 12, 40, [60] * 8, True),
        (0.4, 500, 40, [30] * 8, False),
        (0.4, 500, 40, [900] * 8, True),
        (0.2, 500, 40, [200] * 8, True),  # the same prompts, by what this machine's batches cost
        (0.9, 500, 40, [200] * 8, False),
        (0.4, 12, 400, [2] * 8, False),  # nothing to write: padding and sharing decide
        (0.4, 12, 40, [5, 5, 5, 5, 5, 5, 5, 400], False),  # the longest row holds up all
    ],
)
def test_reading_again_against_writing_together(
    write: float, shared: int, own: int, lengths: list[int], together: bool
) -> None:
    choice = after(*lengths, batch_write=write).choose(prompts(shared, own))
    assert (choice.count, choice.together) == (8, together)
    assert bool(choice.reason) is not together


def test_a_first_batch_is_tried_where_it_may_be_worth_it() -> None:
    """By guessed costs it looks a little slower; once it is measured, the measure holds."""
    assert after(100).choose(prompts(shared=120, own=40)).together
    assert not after(*[100] * 8, batch_write=1.5).choose(prompts(shared=120, own=40)).together


def test_it_says_why() -> None:
    assert (
        "would read the 500 shared tokens again for each prompt"
        in after(*[3] * 8, batch_write=0.9).choose(prompts(500, 40)).reason
    )
    assert "vary too much in length" in after(*[2] * 8, batch_write=0.9).choose(prompts(5, 400)).reason


def test_one_prompt_is_answered_alone() -> None:
    assert BatchPlanner().choose(prompts(0, 5, count=1)) == BatchPlan(1, together=False)


def test_the_same_answers_either_way_and_long_instructions_are_read_once() -> None:
    heard: list[str] = []

    class Hears(BatchListener):
        def notice(self, notice: Notice) -> None:
            heard.append(notice.text)

    instructions = ChatMessage.system("Answer in a few words, and be kind to everyone. " * 8)
    with load(MODEL) as model:
        options = model.options.replaced(max_tokens=4, temperature=0)
        asked = [
            BatchItem(model.prompter.chat([instructions, ChatMessage.user(f"Item {n}")]), options) for n in range(5)
        ]
        runner = BatchRunner(model, listener=Hears())
        assert runner.choose(asked) == BatchPlan(1, together=False)
        found = [runner.alone(one) for one in asked]
        assert all(one.usage.cached_tokens > 50 for one in found[1:])
        fixed = BatchRunner(model, size=4)
        assert fixed.choose(asked) == BatchPlan(4, together=True)
        assert [one.text for one in fixed.together(asked)] == [one.text for one in found]
        assert model.cached_tokens == 0


def test_a_batch_of_the_given_size_reads_every_prompt() -> None:
    chats = [[ChatMessage.system("Be kind. " * 40), ChatMessage.user(f"Item {n}")] for n in range(4)]
    with load(MODEL) as model:
        fixed = model.generate_batch(chats, max_tokens=3, temperature=0, batch_size=4)
        alone = [model.generate_chat(chat, max_tokens=3, temperature=0) for chat in chats]
        assert [one.text for one in fixed] == [one.text for one in alone]
        assert not any(one.usage.cached_tokens for one in fixed)
