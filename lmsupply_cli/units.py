"""Bytes, rates and durations: `GB` is 10⁹ and `GiB` is 2³⁰, in input and output."""

from __future__ import annotations

import re

from lmsupply_cli.errors import UsageError

_UNITS = {"": 1, "B": 1} | {
    prefix + suffix: base ** (power + 1)
    for suffix, base in (("B", 1000), ("IB", 1024))
    for power, prefix in enumerate("KMGT")
}


def parse_bytes(text: str) -> int:
    """`"8GB"` → 8_000_000_000, `"6.5 GiB"`, `"4096"`. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match.group(2).upper() not in _UNITS:
        raise UsageError(f"not a size: {text!r}", hint="write it like 8GB, 6.5GiB or a number of bytes")
    return int(float(match.group(1)) * _UNITS[match.group(2).upper()])


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
    return f"{billions:g} billion" if billions >= 0.1 else f"{billions * 1000:g} million"
