"""Foreign text must not steer the terminal: answers, model cards, names of files and models, messages of servers.

Neutralized are control characters (C0, DEL, C1), which begin escape sequences; the overrides and isolates that turn text
around (U+202A–202E, U+2066–2069); U+2028 and U+2029, which begin lines; and lone surrogates, which no stream can write.
Left alone is what languages need: marks of direction without a scope (U+200E, U+200F, U+061C), joiners, and the tag
characters of flags.
"""

from __future__ import annotations

import json
import re
from typing import Any

# C0 controls are shown as their pictures (U+2400 …), the others as U+FFFD
_OTHERS = (*range(0x80, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))
_SHOWN = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421} | dict.fromkeys(_OTHERS, 0xFFFD)
del _SHOWN[ord("\n")], _SHOWN[ord("\t")]
_ONE_LINE = _SHOWN | {ord("\n"): 0x2424, ord("\t"): 0x20}
_ESCAPED = "[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"


def sanitize(text: str) -> str:
    """`text` without what could steer the terminal, line breaks and tabs kept."""
    return text.replace("\r\n", "\n").translate(_SHOWN)


def one_line(text: str) -> str:
    """As `sanitize`, for a field of one line: a line break in it must not look like a line of ours."""
    return text.translate(_ONE_LINE)


def json_text(value: Any) -> str:
    """JSON on one line, in which the same characters are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(_ESCAPED, lambda match: f"\\u{ord(match[0]):04x}", text)
