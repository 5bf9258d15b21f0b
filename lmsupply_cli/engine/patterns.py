"""The regular expressions of a tokenizer.json, and which of them are known to end in time.

Both tokenizers use libraries that backtrack, which take exponential time for some expressions; the engine's
(`std::regex`, 0.18) ends with the process after some ten thousand characters, except for the expressions of the common
families. So text meets any other expression in a worker first (see engine/pattern_guard.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_CONTRACTIONS = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'s|'t|'re|'ve|'m|'ll|'d")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_WORDS = (f"{_BEFORE}{_UPPER}*{_LOWER}+", f"{_BEFORE}{_UPPER}+{_LOWER}*")
_KNOWN = (  # alternatives that take linear time, the longer of two that begin alike first
    *(f"{word}{_CONTRACTIONS[0]}?" for word in _WORDS),
    *_WORDS,
    *_CONTRACTIONS,
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+""",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
    r" ?\p{L}+",
    r" ?\p{N}+",
    r"\p{N}{1,3}",
    r"\p{N}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[\p{P}\p{S}]+[\r\n]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
)


_MOST_GROWTH = 4  # characters for one; `▁` for a space, and the like, make no text longer


def find_patterns(tokenizer: Any) -> tuple[str, ...]:
    """Every regular expression of a parsed tokenizer.json, and every replacement that makes text much longer."""
    parts = [tokenizer.get(name) for name in _PARTS] if isinstance(tokenizer, dict) else []
    return tuple(pattern for part in parts for pattern in _walk(part))


def unknown_pattern(patterns: tuple[str, ...]) -> str:
    """The first for which the engine has no code of its own, "" if there is none."""
    return next((pattern for pattern in patterns if not _is_known(pattern)), "")


def _is_known(pattern: str) -> bool:
    """Whether it is made of known alternatives only."""
    rest = pattern.replace("\r", r"\r").replace("\n", r"\n") + "|"
    while rest:
        part = next((part for part in _KNOWN if rest.startswith(f"{part}|")), None)
        if part is None:
            return False
        rest = rest[len(part) + 1 :]
    return True


def _growth(step: dict[str, Any]) -> str:
    """The text that a Replace makes much longer: a few of them in a row fill any memory."""
    pattern, content = step.get("pattern"), step.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str):
        return ""
    old = pattern.get("String")
    return f"{old} → {content[:20]}…" if isinstance(old, str) and len(content) > _MOST_GROWTH * max(1, len(old)) else ""


def _walk(value: Any) -> Iterator[str]:
    level = [value]
    while level:
        one = level.pop()
        if isinstance(one, dict):
            if isinstance(found := one.get("Regex"), str):
                yield found
            if grows := _growth(one):
                yield grows
            level += one.values()
        elif isinstance(one, list):
            level += one
