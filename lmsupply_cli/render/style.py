"""Color with a meaning, in one place: errors, hints, notes, questions, and what stands beside the answer.

Only a terminal gets it; never with NO_COLOR or on a dumb terminal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import IO, Literal

from lmsupply_cli.render.sanitize import one_line

Style = Literal["error", "hint", "note", "question", "heading", "good", "bad", "aside"]
_CODES: dict[Style, str] = {
    "error": "1;31",
    "hint": "36",
    "note": "36",
    "question": "1",
    "heading": "1",
    "good": "32",
    "bad": "31",
    "aside": "2",
}
_LABEL = re.compile(r"(error|hint|note):(?= )")


def wants_color(environ: Mapping[str, str]) -> bool:
    return not environ.get("NO_COLOR")


def is_dumb(environ: Mapping[str, str]) -> bool:
    """Whether the terminal takes no control sequences."""
    return environ.get("TERM", "") in ("dumb", "unknown")


def is_colored(stream: IO[str]) -> bool:
    return wants_color(os.environ) and not is_dumb(os.environ) and stream.isatty()


def paint(text: str, style: Style, stream: IO[str]) -> str:
    """`text` in `style` where `stream` shows colors."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if text and is_colored(stream) else text


def paint_label(text: str, stream: IO[str]) -> str:
    """The `error:`, `hint:` or `note:` at the beginning in its style."""
    label = _LABEL.match(text)
    return paint(label[0], label[1], stream) + text[label.end() :] if label else text  # type: ignore[arg-type]


def styled_error(message: str, hint: str, stream: IO[str]) -> str:
    """The lines of an error for `stream`, at any width; parameters are named as flags."""
    from lmsupply_cli.render.flags import as_flags
    from lmsupply_cli.render.terminal import wrapped

    texts = [f"error: {message}", *([f"hint: {hint}"] if hint else [])]
    return "".join(paint_label(wrapped(one_line(as_flags(text)), stream), stream) + "\n" for text in texts)
