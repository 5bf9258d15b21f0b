r"""Character classes of regular expressions: `\d`, `\w` and `\s` are ASCII, as in JSON Schema (ECMA-262), unless a
pattern begins with `(?u)`. Rust's regex syntax, which llguidance takes, has them in Unicode."""

from __future__ import annotations

import re

_CLASSES = {
    "d": "0-9", "w": "0-9A-Za-z_", "s": r" \t\n\r\f\v",
}  # fmt: skip
_UNICODE = "(?u)"


def with_ascii_classes(pattern: str) -> str:
    """`pattern` with the short classes written out; one that begins with `(?u)` keeps Unicode's, without the flag."""
    if pattern.startswith(_UNICODE):
        return pattern.removeprefix(_UNICODE)
    out, depth, at = [], 0, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            out.append(_escape(pattern[at + 1], inside=depth > 0))
            at += 2
            continue
        if char == "[":
            depth += 1
            out.append(char)
            at += 1
            if literal := re.match(r"\^?\]", pattern[at:]):  # a bracket that comes first stands for itself
                out.append(literal[0].replace("]", r"\]"))
                at += len(literal[0])
            continue
        if char == "]" and depth:
            depth -= 1
        out.append(char)
        at += 1
    return "".join(out)


def _escape(letter: str, *, inside: bool) -> str:
    """An escape of one letter, in a class (where negated ones nest) or outside."""
    if letter in _CLASSES:
        return _CLASSES[letter] if inside else f"[{_CLASSES[letter]}]"
    if letter.lower() in _CLASSES and letter.isupper():
        return f"[^{_CLASSES[letter.lower()]}]"
    return "\\" + letter
