"""What to do with a conversation that is too long: decided here, announced by who asked. Never silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from lmsupply_cli.chat.messages import ChatMessage, ChatRole

Policy = Literal["error", "truncate-start", "truncate-end", "drop-oldest"]


def drop_oldest_turn(messages: Sequence[ChatMessage]) -> list[ChatMessage] | None:
    """Without the oldest turn (a user message and its answers); the system prompt and the last
    message stay. None if there is no turn to drop."""
    start = 1 if messages and messages[0].role is ChatRole.SYSTEM else 0
    end = next((at for at in range(start + 1, len(messages)) if messages[at].role is ChatRole.USER), None)
    return None if end is None else [*messages[:start], *messages[end:]]


def truncate_last(
    messages: Sequence[ChatMessage],
    excess_tokens: int,
    *,
    keep: Literal["start", "end"],
    encode: Callable[[str], list[int]],
    decode: Callable[[Sequence[int]], str],
) -> list[ChatMessage] | None:
    """The last message shorter by at least `excess_tokens`, cut at its start or end. None where nothing would be left."""
    *others, last = messages
    text = truncate_text(last.content, excess_tokens, keep=keep, encode=encode, decode=decode)
    return [*others, replace(last, content=text)] if text else None


def truncate_text(
    text: str,
    excess_tokens: int,
    *,
    keep: Literal["start", "end"],
    encode: Callable[[str], list[int]],
    decode: Callable[[Sequence[int]], str],
) -> str:
    """`text` without its first or last tokens, cut between whole characters; "" if nothing is left."""
    ids = encode(text)
    left = len(ids) - excess_tokens
    if left < 1:
        return ""
    kept = decode(ids[:left] if keep == "start" else ids[-left:])
    return kept.rstrip("\ufffd") if keep == "start" else kept.lstrip("\ufffd")
