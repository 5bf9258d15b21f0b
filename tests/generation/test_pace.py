"""Together or one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli import ChatMessage, load
from lmsupply_cli.generation.batch import Asked
from lmsupply_cli.runtime.batch_runner import BatchRunner
from lmsupply_cli.generation.batch_plan import CPU, GPU, Choice, Costs, Pace

MODEL = str(Path(__file__).parent.parent / "models" / "llama-fp32")


def prompts(shared: int, own: int, count: int = 8) -> list[list[int]]:
    return [[*range(shared), *(1000 * (n + 1) + at for at in range(own))] for n in range(count)]


def after(costs: Costs, *lengths: int) -> Pace:
    pace = Pace(costs)
    for length in lengths:
        pace.saw(length)
    return pace


def test_prompts_that_share_little_go_together_from_the_first() -> None:
    assert Pace(CPU).choose(prompts(shared=12, own=40)) == Choice(8, together=True)


def test_where_they_share_much_the_first_answer_tells() -> None:
    assert Pace(CPU).choose(prompts(shared=500, own=40)) == Choice(1, together=False)
    assert Pace(CPU).choose(prompts(shared=0, own=40), cached_tokens=39) == Choice(1, together=False)


@pytest.mark.parametrize(
    ("costs", "shared", "own", "lengths", "together"),
    [
        (CPU, 12, 40, [60], True),
        (CPU, 500, 40, [30], False),
        (CPU, 500, 40, [900], True),
        (CPU, 12, 400, [2], False),  # nothing to write: padding and sharing decide
        (CPU, 12, 40, [5, 5, 5, 5, 5, 5, 5, 400], False),  # the longest row holds up all
        (GPU, 500, 40, [60], True),
        (GPU, 3000, 40, [5], False),
    ],
)
def test_reading_again_against_writing_together(
    costs: Costs, shared: int, own: int, lengths: list[int], together: bool
) -> None:
    choice = after(costs, *lengths).choose(prompts(shared, own))
    assert (choice.count, choice.together) == (8, together)
    assert bool(choice.reason) is not together


def test_it_says_why() -> None:
    assert "the 500 tokens that they share" in after(CPU, 30).choose(prompts(500, 40)).reason
    assert "far apart in length" in after(CPU, 2).choose(prompts(5, 400)).reason


def test_old_answers_are_forgotten() -> None:
    pace = after(CPU, 400, *[5] * 8)
    assert pace.choose(prompts(shared=500, own=40)).reason
    assert after(CPU, 5, *[400] * 8).choose(prompts(shared=100, own=40)).together


def test_one_prompt_is_answered_alone() -> None:
    assert Pace(CPU).choose(prompts(0, 5, count=1)) == Choice(1, together=False)


def test_the_same_answers_either_way_and_long_instructions_are_read_once() -> None:
    heard: list[str] = []
    instructions = ChatMessage.system("Answer in a few words, and be kind to everyone. " * 8)
    with load(MODEL) as model:
        options = model.options.replaced(max_tokens=4, temperature=0)
        asked = [Asked(model.chat_prompt([instructions, ChatMessage.user(f"Item {n}")]), options) for n in range(5)]
        runner = BatchRunner(model, notice=lambda notice: heard.append(notice.text))
        first = runner.choose(asked)
        assert first == Choice(1, together=False)
        found = [runner.alone(asked[0])]
        choice = runner.choose(asked[1:])
        assert (choice.count, choice.together) == (4, False)
        found += [runner.alone(one) for one in asked[1:]]
        assert all(one.usage.cached_tokens > 50 for one in found[1:])
        assert len(heard) == 1
        assert "one after the other: together, each would read again" in heard[0]
        fixed = BatchRunner(model, size=4)
        assert fixed.choose(asked) == Choice(4, together=True)
        assert [one.text for one in fixed.together(asked)] == [one.text for one in found]
        assert model.cached_tokens == 0


def test_generate_batch_follows_it() -> None:
    chats = [[ChatMessage.system("Be kind. " * 40), ChatMessage.user(f"Item {n}")] for n in range(4)]
    with load(MODEL) as model:
        found = model.generate_batch(chats, max_tokens=3, temperature=0)
        assert all(one.usage.cached_tokens > 50 for one in found[1:])
        fixed = model.generate_batch(chats, max_tokens=3, temperature=0, batch_size=4)
        assert [one.text for one in fixed] == [one.text for one in found]
        assert not any(one.usage.cached_tokens for one in fixed)
