"""The field `context` of generate: a conversation as whole numbers, for clients that send them back.

Clients take it as it is. It holds the messages rather than their tokens, so that the next prompt is made of them by the
model's chat format, and nothing in it can become a control token.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.server.errors import bad_field

_BYTES = 3  # in a number
_MARK = 0x6C6D73  # the first number, so that the tokens of another server are told apart
_ROLES = {"s": ChatRole.SYSTEM, "u": ChatRole.USER, "a": ChatRole.ASSISTANT}


def to_context(messages: Iterable[ChatMessage]) -> list[int]:
    """The roles and texts of messages."""
    data = json.dumps([[m.role.value[0], m.content] for m in messages], separators=(",", ":")).encode()
    padded = data + b" " * (-len(data) % _BYTES)
    numbers = [int.from_bytes(padded[at : at + _BYTES], "big") for at in range(0, len(padded), _BYTES)]
    return [_MARK, _checksum(padded), *numbers]


def from_context(numbers: Sequence[int]) -> list[ChatMessage]:
    """Raises ApiError for numbers that are not from here."""
    if not numbers:
        return []
    try:
        mark, checksum, *rest = numbers
        data = b"".join(number.to_bytes(_BYTES, "big") for number in rest)
        if mark != _MARK or checksum != _checksum(data):
            raise ValueError
        return [ChatMessage(_ROLES[role], str(text)) for role, text in json.loads(data)]
    except (ValueError, OverflowError, KeyError, TypeError) as error:
        raise bad_field("context", "context: not from an answer of this server") from error


def _checksum(data: bytes) -> int:
    return zlib.crc32(data) >> 8
