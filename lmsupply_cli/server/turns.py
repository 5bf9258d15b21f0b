"""A chat as models were trained on it: one message a turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lmsupply_cli.chat.messages import ChatMessage, ChatRole


def as_turns(messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Neighbors of one role as one message: templates want the roles to alternate. Results of tools stay apart, and so do
    system messages after the first turn. A chat that nobody has said anything in ends with an empty message of the
    user."""
    spoken = [turn for turn in _joined_neighbors(messages) if not _says_nothing(turn)]
    turns = _joined_neighbors(spoken)
    if all(turn.role is ChatRole.SYSTEM for turn in turns):
        turns.append(ChatMessage.user(""))
    return tuple(turns)


def _joined_neighbors(messages: Iterable[ChatMessage]) -> list[ChatMessage]:
    turns: list[list[ChatMessage]] = []
    for message in messages:
        if turns and _belong_together(turns, message):
            turns[-1].append(message)
        else:
            turns.append([message])
    return [_joined(turn) for turn in turns]


def _belong_together(turns: list[list[ChatMessage]], message: ChatMessage) -> bool:
    if message.role is not turns[-1][0].role or message.role is ChatRole.TOOL:
        return False
    return message.role is not ChatRole.SYSTEM or len(turns) == 1


def _joined(turn: list[ChatMessage]) -> ChatMessage:
    if len(turn) == 1:
        return turn[0]
    return replace(
        turn[0],
        content="\n\n".join(message.content for message in turn if message.content),
        reasoning="\n\n".join(message.reasoning for message in turn if message.reasoning),
        tool_calls=tuple(call for message in turn for call in message.tool_calls),
    )


def _says_nothing(message: ChatMessage) -> bool:
    """An answer of which only the reasoning is left."""
    return message.role is ChatRole.ASSISTANT and not message.content and not message.tool_calls
