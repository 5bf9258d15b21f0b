"""The bytes that a single token stands for, read from the `decoder` of a tokenizer.json.

The `tokenizers` library decodes whole lists of ids. Streaming and guidance need one token at a time. The common
decoders work token by token: ByteLevel (GPT-2 and most since), and the SentencePiece chain of Replace, ByteFallback,
Fuse and Strip, or Metaspace. Other decoders are left to the library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

_NO_BYTE = re.compile(r"[\x00-\x20\x7f-\xa0\xad]")  # characters below U+0100 that ByteLevel writes another way
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class DecodingRules:
    """What a decoder does to tokens.

    `byte_level`: each character of a token stands for one byte. Else: `replaced` pairs of (old, new) text; with
    `byte_fallback` a token such as `<0x0A>` is that byte; `strip` spaces and, in the first token, every `first_drops`
    character are left out at the start of a text.
    """

    byte_level: bool = False
    replaced: tuple[tuple[str, str], ...] = ()
    byte_fallback: bool = False
    strip: int = 0
    first_drops: str = ""

    def bytes_of(self, token: str) -> bytes:
        """UTF-8, or a part of a character."""
        if self.byte_level:
            if _NO_BYTE.search(token):
                return token.encode()
            try:
                return token.translate(_byte_level_table()).encode("latin-1")
            except UnicodeEncodeError:  # a character that stands for no byte: then the token stands for itself
                return token.encode()
        if self.byte_fallback and (found := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(found[1], 16)])
        for old, new in self.replaced:
            token = token.replace(old, new)
        return token.encode()

    def is_byte(self, token: str) -> bool:
        """Whether the token is a byte of its own (`<0x0A>`)."""
        return self.byte_fallback and _BYTE_TOKEN.fullmatch(token) is not None


def read_decoding_rules(decoder: Any) -> DecodingRules | None:
    """Of the `decoder` object of a tokenizer.json; None for one that does not work token by token."""
    if not isinstance(decoder, Mapping):
        return None
    steps = decoder.get("decoders") if decoder.get("type") == "Sequence" else [decoder]
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        return None
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return DecodingRules(byte_level=True)
    replaced: list[tuple[str, str]] = []
    fallback, strip, first_drops = False, 0, ""
    for at, step in enumerate(steps):
        match step:
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if not fallback and old:
                replaced.append((old, new))
            case {"type": "ByteFallback"}:
                fallback = True
            case {"type": "Fuse"}:
                pass
            case {"type": "Strip", "content": " ", "start": int(count), "stop": 0} if "Fuse" in kinds[:at]:
                strip += count
            case {"type": "Metaspace", "replacement": str(mark)} if not first_drops and len(mark) == 1:
                replaced.append((mark, " "))
                first_drops = "" if step.get("prepend_scheme", "always") == "never" else mark
            case _:
                return None
    return DecodingRules(replaced=tuple(replaced), byte_fallback=fallback, strip=strip, first_drops=first_drops)


@cache
def _byte_level_table() -> dict[int, int]:
    """Character → byte, of those that differ: printable bytes stand for themselves, the others are shifted to U+0100 and
    beyond (GPT-2)."""
    others = (byte for byte in range(256) if _NO_BYTE.match(chr(byte)))
    return {256 + at: byte for at, byte in enumerate(others)}
