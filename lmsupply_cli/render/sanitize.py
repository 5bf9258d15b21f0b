"""Model output is foreign text: nothing in it may steer the terminal."""

from __future__ import annotations

# Controls are shown as their pictures (U+2400 …); C1 controls and bidirectional overrides as U+FFFD.
_SHOWN = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_SHOWN |= dict.fromkeys((*range(128, 160), *range(8234, 8239), *range(8294, 8298)), 65533)
del _SHOWN[ord("\n")], _SHOWN[ord("\t")]


def sanitize(text: str) -> str:
    """`text` without control characters and escape sequences, line breaks and tabs kept."""
    return text.replace("\r\n", "\n").translate(_SHOWN)
