"""Documents changed at random."""

from __future__ import annotations

import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, 2**31, 2**63, 2**64, 10**400, "", "x", "..", "/etc/passwd", "../../x", "a\0b",
    "\x1b]0;x\x07", "\u202ex", "\ud800", "9" * 5000, [], {}, [None], [[]], {"": None}, [0, "x"], {"a": {"b": [1]}}, "é" * 300,
)  # fmt: skip


def mutated(data: bytes, rng: random.Random, *, form: str) -> bytes:
    """Another document: a value replaced by one of another type, a key gone, bytes lost, changed, doubled or added.
    `form`: "json", "jsonl" (a change to one line) or "toml"."""
    if form == "jsonl":
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        lines[at] = mutated(lines[at] or b"{}", rng, form="json")
        return b"\n".join(lines)
    if form == "json" and rng.random() < 0.7:
        return _with_odd_value(data, rng)
    if form == "toml" and rng.random() < 0.7:
        lines = data.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        key = lines[at].split(b"=")[0]
        odd = (
            b"1",
            b"-1",
            b'""',
            b"[]",
            b"{}",
            b"true",
            b"1e400",
            b"9" * 4301,
            b"2020-01-01",
            b'["", 1]',
            b"'''",
            b"[" * 3000,
        )
        lines[at] = key + b"= " + rng.choice(odd) + b"\n"
        return b"".join(lines)
    return _with_odd_bytes(data, rng)


def _with_odd_value(data: bytes, rng: random.Random) -> bytes:
    try:
        value = json.loads(data)
    except ValueError:
        return _with_odd_bytes(data, rng)
    places: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        one = level.pop()
        keys = list(one) if isinstance(one, dict) else range(min(len(one), 20)) if isinstance(one, list) else ()
        places += [(one, key) for key in keys]
        level += [one[key] for key in keys]
    if not places:
        return json.dumps(rng.choice(ODD)).encode()
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(places)
        if rng.random() < 0.15 and isinstance(holder, dict):
            holder.pop(key, None)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = rng.choice(ODD)
    text = json.dumps(value)
    return (text.replace("1e+308", "1e400", 1) if rng.random() < 0.1 else text).encode()


def _with_odd_bytes(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return rng.choice(
        (
            data[:at],
            data[at:],
            data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            data[:at] + rng.randbytes(8) + data[at:],
            data + data,
            b"\xef\xbb\xbf" + data,
            data.decode("utf-8", "replace").encode("utf-16"),
            b"[" * 20_000,
            b'{"a":' * 400 + b"1" + b"}" * 400,
            b"",
            b"null",
            b"\0" * 100,
        )
    )
