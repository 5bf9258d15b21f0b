"""Text from outside, made fit for a line of ours: no control characters, no change of direction, not endless."""

from __future__ import annotations

import re

UNPRINTABLE = (
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction
    "\u2028\u2029\ufeff\ufffd\ud800-\udfff]"  # line and paragraph ends, byte order mark, no characters at all
)


def plain(text: str, limit: int = 200) -> str:
    r"""`text` on one line: what would steer a terminal is written as `\x1b`, what is too long is cut."""
    shown = re.sub(UNPRINTABLE, _escaped, text[: limit + 1])
    return shown if len(text) <= limit and len(shown) <= 4 * limit else f"{shown[:limit]}…"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
