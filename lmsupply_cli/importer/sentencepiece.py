"""tokenizer.model files of SentencePiece, read without its library.

A file is one message of protocol buffers: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto,
encoded as https://protobuf.dev/programming-guides/encoding/ says.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import read_bytes

_MODEL_BYTES = 64_000_000  # a vocabulary of 262,144 pieces has 5 MB
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of the message
_FORMS: dict[int, Literal["unigram", "pieces"]] = {1: "unigram", 2: "pieces"}
_DAMAGED = "download it again"


@dataclass(frozen=True, slots=True)
class Pieces:
    """A model. `form`: Unigram, or BPE by scores. `kinds`: see `vocabulary.Kind`. Ids are None where there is no such
    token. `prefix`: a space is put before a text; `drops_spaces`: those that follow others, or end the text, are left out;
    `charsmap`: what other characters are replaced first, as SentencePiece compiles it."""

    form: Literal["unigram", "pieces"]
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...]
    unk_id: int | None
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    prefix: bool
    drops_spaces: bool
    charsmap: bytes


class _Damaged(Exception):
    """What is wrong with the message."""


def read_pieces(path: Path) -> Pieces:
    """Raises ModelFilesError."""
    data = read_bytes(path, limit_bytes=_MODEL_BYTES, error=ModelFilesError)
    try:
        return _pieces(data)
    except _Damaged as error:
        raise ModelFilesError(f"{path} is not a model of SentencePiece: {error}", hint=_DAMAGED) from error


def _pieces(data: bytes) -> Pieces:
    tokens, kinds, scores = [], [], []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == _PIECES:
            piece = dict(_fields(_message(value)))
            tokens.append(_text(piece.get(1, b"")))
            scores.append(_float(piece.get(2, bytes(4))))
            kinds.append(_number(piece.get(3, 1)))
        elif number == _TRAINER:
            trainer.update(_fields(_message(value)))
        elif number == _NORMALIZER:
            normalizer.update(_fields(_message(value)))
    form = _FORMS.get(_number(trainer.get(3, 1)))
    if form is None:
        raise _Damaged("it is neither Unigram nor BPE")
    if not tokens:
        raise _Damaged("it has no pieces")
    return Pieces(
        form,
        tuple(tokens),
        tuple(kinds),
        tuple(scores),
        unk_id=_id(trainer, 40, 0, len(tokens)),
        bos_id=_id(trainer, 41, 1, len(tokens)),
        eos_id=_id(trainer, 42, 2, len(tokens)),
        pad_id=_id(trainer, 43, -1, len(tokens)),
        prefix=bool(_number(normalizer.get(3, 1))),
        drops_spaces=bool(_number(normalizer.get(4, 1))),
        charsmap=_message(normalizer.get(2, b"")),
    )


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: a whole number, or bytes. Raises _Damaged."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            size = 4 if kind == _FOUR_BYTES else 8
        else:
            raise _Damaged(f"a field of unknown type {kind} at byte {at}")
        if size > len(data) - at:
            raise _Damaged(f"it ends within a field at byte {at}")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, seven bits a byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Damaged("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Damaged(f"a number is too long at byte {at}")


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _Damaged("a number stands where a text must be")
    return value


def _number(value: int | bytes) -> int:
    """Signed, of 64 bits."""
    if isinstance(value, bytes):
        raise _Damaged("a text stands where a number must be")
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _float(value: int | bytes) -> float:
    data = _message(value)
    if len(data) != 4:
        raise _Damaged("a score does not have four bytes")
    score: float = struct.unpack("<f", data)[0]
    if score - score:  # infinite, or no number
        raise _Damaged("a score is not a number")
    return score


def _text(value: int | bytes) -> str:
    try:
        return _message(value).decode()
    except UnicodeDecodeError as error:
        raise _Damaged("a piece is not valid UTF-8") from error


def _id(trainer: dict[int, Any], field: int, default: int, count: int) -> int | None:
    token = _number(trainer.get(field, default))
    if token >= count:
        raise _Damaged(f"the special token {token} is not among the {count} pieces")
    return token if token >= 0 else None
