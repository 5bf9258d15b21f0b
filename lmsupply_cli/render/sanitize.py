"""Model output is foreign text: nothing in it may steer the terminal."""

from __future__ import annotations

# Controls are shown as their pictures (U+2400 …); C1 controls and bidirectional overrides as U+FFFD.
_SHOWN = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_SHOWN |= {code: 0xFFFD for code in (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
del _SHOWN[ord("\n")], _SHOWN[ord("\t")]


def sanitize(text: str) -> str:
    """`text` without control characters and escape sequences, line breaks and tabs kept."""
    return text.replace("\r\n", "\n").translate(_SHOWN)
