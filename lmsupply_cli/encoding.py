"""Text inside other text: its token ids, and where it may begin."""

from __future__ import annotations

from collections.abc import Callable

_ANCHORS = ("\n", "a", "0", ".", " ")


def encode_inside(piece: str, encode: Callable[[str], list[int]]) -> list[int]:
    """`piece` as in the middle of a text: SentencePiece vocabularies put a space before what stands alone. It is encoded
    after a character that keeps its token whatever follows."""
    for anchor in _ANCHORS:
        before, whole = encode(anchor), encode(anchor + piece)
        if whole[: len(before)] == before:
            return whole[len(before) :]
    return encode(piece)


def partial_match(text: str, wanted: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `wanted`."""
    return next((size for size in range(min(len(wanted) - 1, len(text)), 0, -1) if text.endswith(wanted[:size])), 0)
