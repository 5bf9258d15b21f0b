"""Parameters in messages: the core names them as in Python, in backquotes, and the front ends show them as flags."""

from __future__ import annotations

import re

from lmsupply_cli.config.table import SETTINGS

_OTHERS = frozenset(
    {
        "debug",
        "trust_model_files",
        "batch_size",
        "accept_license",
        "choices",
        "raw",
        "json_schema",
        "regex",
        "grammar",
        "alias",
    }
)
_PARAMETER = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")


def as_flags(text: str) -> str:
    """`` `max_tokens=5` `` as `--max-tokens 5`; anything else in backquotes stays as it is."""
    return _PARAMETER.sub(_flag, text)


def _flag(found: re.Match[str]) -> str:
    name, value = found.groups()
    if name not in SETTINGS and name not in _OTHERS:
        return found[0]
    flag = SETTINGS[name].flag if name in SETTINGS else "--" + name.replace("_", "-")
    return flag if value is None else f"{flag} {value}"
