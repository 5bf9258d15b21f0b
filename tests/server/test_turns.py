"""Messages of any order as turns."""

from __future__ import annotations

from lmsupply_cli.chat.messages import ChatMessage as M
from lmsupply_cli.events import ToolCall
from lmsupply_cli.server.turns import as_turns

CALL, OTHER = ToolCall("call_1", "add", "{}"), ToolCall("call_2", "add", "{}")


def test_neighbors_of_one_role_are_one_message() -> None:
    found = as_turns([M.system("a"), M.system("b"), M.user("c"), M.user("d"), M.assistant("e"), M.assistant("f")])
    assert found == (M.system("a\n\nb"), M.user("c\n\nd"), M.assistant("e\n\nf"))


def test_reasoning_text_and_calls_are_one_answer() -> None:
    found = as_turns(
        [M.user("x"), M.assistant("", reasoning="r"), M.assistant("t"), M.assistant("", tool_calls=[CALL]),
         M.assistant("", tool_calls=[OTHER]), M.tool("1", "call_1"), M.tool("2", "call_2")]
    )  # fmt: skip
    assert found[1] == M.assistant("t", reasoning="r", tool_calls=[CALL, OTHER])
    assert found[2:] == (M.tool("1", "call_1"), M.tool("2", "call_2"))


def test_reasoning_without_an_answer_is_dropped() -> None:
    found = as_turns([M.user("a"), M.assistant("", reasoning="r"), M.user("b"), M.assistant("", reasoning="r")])
    assert found == (M.user("a\n\nb"),)


def test_later_system_messages_stay_where_they_are() -> None:
    messages = [M.system("a"), M.user("b"), M.system("c"), M.system("d"), M.user("e")]
    assert as_turns(messages) == tuple(messages)


def test_there_is_always_something_to_answer() -> None:
    assert as_turns([]) == (M.user(""),)
    assert as_turns([M.system("a")]) == (M.system("a"), M.user(""))
