"""Bytes, rates and durations: `GB` is 10⁹ and `GiB` is 2³⁰, in input and output."""

from __future__ import annotations

import math
import re

from lmsupply_cli.errors import UsageError

_UNITS = {"": 1, "B": 1} | {
    prefix + suffix: base ** (power + 1)
    for suffix, base in (("B", 1000), ("IB", 1024))
    for power, prefix in enumerate("KMGT")
}

_MOST_BYTES = 2**63 - 1
LEAST_MEMORY_BYTES = 1_000_000  # no program runs in less; a smaller figure was meant in another unit


def parse_bytes(text: str) -> int:
    """`"8GB"` → 8_000_000_000, `"6.5 GiB"`, `"4096"`. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match.group(2).upper() not in _UNITS:
        raise UsageError(f"not a size: {shortened(text, 40)!r}", hint="write it like 8GB, 6.5GiB or a number of bytes")
    count = float(match.group(1)) * _UNITS[match.group(2).upper()]
    if count > _MOST_BYTES:
        raise UsageError(f"{shortened(text, 40)} is more than any machine has", hint="write it like 8GB or 6.5GiB")
    return int(count)


def parse_memory(size: int | str) -> int:
    """An amount of memory, in bytes or as `parse_bytes` reads it. Raises UsageError, also for what cannot be meant."""
    if isinstance(size, bool) or not isinstance(size, (int, str)):
        raise UsageError(f"not a size: {size!r}", hint="write it like 8GB, 6.5GiB or a number of bytes")
    if isinstance(size, int) and not 0 <= size <= _MOST_BYTES:
        raise UsageError("a size in bytes is from 0 to 2^63 - 1", hint="write it like 8GB or 6.5GiB")
    count = parse_bytes(size) if isinstance(size, str) else size
    if count < LEAST_MEMORY_BYTES:
        number = str(size).strip()
        bare = number.isdecimal() and count > 0
        hint = (
            f"{number} is read as {number} bytes; did you mean {number}GB?" if bare else "write it like 8GB or 6.5GiB"
        )
        raise UsageError(f"{count:,} bytes of memory is too little for any model", hint=hint)
    return count


def format_bytes(count: float) -> str:
    """1_500_000_000 → `"1.5 GB"`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_seconds(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def format_rate(tokens: int, seconds: float) -> str:
    return f"{tokens / seconds:.1f} tokens/s" if seconds > 0 else "–"


def format_age(seconds: float) -> str:
    """How long ago, in one unit: `"5 minutes ago"`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def format_parameters(billions: float | None) -> str:
    """3.8 → `"3.8 billion"`, 0.0025 → `"2.5 million"`."""
    if billions is None:
        return "unknown"
    return f"{billions:.3g} billion" if billions >= 0.1 else f"{billions * 1000:.3g} million"


def count(number: int, noun: str) -> str:
    """`1 token`, `1,024 tokens`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def format_duration(seconds: float) -> str:
    """192 → `"3m12s"`, 42 → `"42s"`, 0.4 → `"0.4s"`."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def parse_duration(text: str) -> float:
    """`"10m"` → 600, `"90"` and `"90s"` → 90, `"1h30m"`; infinity for `"forever"`. Raises UsageError."""
    text = text.strip().lower()
    if text == "forever":
        return math.inf
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    match = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d+)?)s)?", text)
    if not match or not text:
        raise UsageError(f"not a duration: {shortened(text, 40)!r}", hint="write it like 10m, 90s, 1h30m or forever")
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def shortened(text: str, most: int) -> str:
    """On one line of at most `most` characters."""
    return cut(" ".join(text.split()), most)


def cut(text: str, most: int) -> str:
    """At most `most` characters of it; … stands for the rest."""
    return text if len(text) <= most else text[: most - 1] + "…"
