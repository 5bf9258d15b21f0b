"""What a session knows of its own size."""

from __future__ import annotations

from support.scripted import fake

from lmsupply_cli.chats.session import ChatSession


def test_used_tokens_follow_the_messages() -> None:
    session = ChatSession(fake("Hi there.", "Again."), system="Be brief.")
    assert session.used_tokens() == 0, "a system prompt alone is no chat"
    list(session.send("hello"))
    first = session.used_tokens()
    assert first == session.generator.cached_tokens or first == session.generator.cached_tokens + 1
    list(session.send("hello"))
    assert session.used_tokens() > first
    session.undo()
    assert session.used_tokens() == first
    session.clear()
    assert session.used_tokens() == 0


def test_an_old_turn_can_be_dropped_where_there_are_two() -> None:
    session = ChatSession(fake(), policy="drop-oldest")
    assert not session.can_drop
    list(session.send("hello"))
    assert not session.can_drop
    list(session.send("hello"))
    assert session.can_drop
    session.policy = "error"
    assert not session.can_drop
