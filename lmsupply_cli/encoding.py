"""Text that stands inside another text, as token ids."""

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
