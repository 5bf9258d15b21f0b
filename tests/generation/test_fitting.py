"""A conversation that is too long: never cut without being asked, never without a word."""

from __future__ import annotations

import pytest
from generation.test_generator import generator

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.errors import DoesNotFit
from lmsupply_cli.events import Notice, TextDelta
from lmsupply_cli.generation.completion import describe_cut
from lmsupply_cli.generation.fitting import answer_room, fit_messages, fit_raw

TALK = [
    ChatMessage.system("S" * 10),
    *(
        m
        for n in range(4)
        for m in (ChatMessage.user(f"question {n} " + "x" * 30), ChatMessage.assistant("answer " * 5))
    ),
    ChatMessage.user("last"),
]


def test_what_fits_is_left_alone() -> None:
    with generator("x", context=4000) as model:
        fitted = fit_messages(model, TALK, policy="truncate-start", max_tokens=100)
        assert list(fitted.messages) == TALK
        assert fitted.notices == ()


@pytest.mark.parametrize(
    ("policy", "stays", "goes"), [("truncate-start", "END", "BEGIN"), ("truncate-end", "BEGIN", "END")]
)
def test_a_prompt_is_cut_at_the_asked_side_and_leaves_room(policy: str, stays: str, goes: str) -> None:
    text = "BEGIN" + "日本語 text " * 50 + "END"
    with generator("x", context=200) as model:
        fitted = fit_messages(model, [ChatMessage.user(text)], policy=policy, max_tokens=20)  # type: ignore[arg-type]
        kept = fitted.messages[0].content
        assert stays in kept
        assert goes not in kept
        assert kept in text
        assert "\ufffd" not in kept
        assert len(fitted.prompt.ids) <= 200 - answer_room(model, 20)
        (notice,) = fitted.notices
        assert f"cut at its {policy.removeprefix('truncate-')}" in notice.text
        raw = fit_raw(model, text, policy=policy, max_tokens=20)  # type: ignore[arg-type]
        assert stays in raw.prompt.text
        assert len(raw.prompt.ids) <= 180
        assert raw.notices


def test_the_oldest_turns_go_whole_and_the_system_prompt_stays() -> None:
    with generator("x", context=330) as model:
        fitted = fit_messages(model, TALK, policy="drop-oldest", max_tokens=20)
        assert fitted.messages[0] == TALK[0]
        assert fitted.messages[-1] == TALK[-1]
        dropped = len(TALK) - len(fitted.messages)
        assert dropped in (2, 4, 6)
        assert list(fitted.messages[1:]) == TALK[1 + dropped :]
        turns = "oldest turn was" if dropped == 2 else f"{dropped // 2} oldest turns were"
        assert f"the {turns} dropped, from “question 0" in fitted.notices[0].text


@pytest.mark.parametrize("policy", ["error", "drop-oldest", "truncate-start"])
def test_what_no_policy_can_mend_is_an_error(policy: str) -> None:
    messages = [ChatMessage.system("S" * 500), ChatMessage.user("x")]
    with generator("x", context=200) as model, pytest.raises(DoesNotFit, match="the context has 200"):
        fit_messages(model, messages, policy=policy, max_tokens=20)  # type: ignore[arg-type]


def test_the_oldest_turns_go_before_the_context_is_full() -> None:
    with generator("x", context=4000) as model:
        whole = len(model.prompter.chat(TALK).ids)
    with generator("x", context=whole + 10) as model:
        assert not fit_messages(model, TALK, policy="drop-oldest", max_tokens=10).notices
        fitted = fit_messages(model, TALK, policy="drop-oldest", max_tokens=50)
        assert fitted.notices
        assert len(fitted.prompt.ids) <= model.context_tokens - 50
        one = [ChatMessage.user("x" * (whole - 60))]
        assert fit_messages(model, one, policy="drop-oldest", max_tokens=100).messages == tuple(one)


@pytest.mark.parametrize(("context", "max_tokens", "cut_by"), [(300, 20, "max_tokens"), (120, 100, "context")])
def test_a_cut_answer_says_which_limit_it_met(context: int, max_tokens: int, cut_by: str) -> None:
    with generator("y" * 500, context=context) as model:
        answer = model.generate("x" * 30, max_tokens=max_tokens)
        assert answer.finish_reason == "length"
        assert answer.cut_by == cut_by
        limit = "max_tokens" if cut_by == "max_tokens" else "the context of 120 tokens"
        said = f"cut off after {answer.usage.completion_tokens} tokens by {limit}"
        assert describe_cut(answer, context_tokens=context) == said
        (row,) = model.generate_batch(["x" * 30], max_tokens=max_tokens)
        assert row.cut_by == cut_by
        assert model.generate("x", max_tokens=1, num_beams=2).cut_by == "max_tokens"
    with generator("y") as model:
        assert describe_cut(model.generate("x"), context_tokens=context) == ""


def test_a_long_chat_goes_on_and_says_what_it_drops() -> None:
    with generator(*["answer"] * 30, context=300) as model:
        session = ChatSession(model, system="Be brief.", policy="drop-oldest")
        notices = []
        for number in range(12):
            events = list(session.send(f"question {number} " + "x" * 20, max_tokens=10))
            notices += [e for e in events if isinstance(e, Notice)]
            assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "answer"
        assert notices
        assert session.messages[0].content == "Be brief."
        assert len(session.messages) == 1 + 2 * 12, "the chat keeps what the model is no longer given"
        assert session.dropped > 0
        while session.messages[1:]:
            session.undo()
        assert session.dropped == 0
