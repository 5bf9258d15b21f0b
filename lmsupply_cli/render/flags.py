"""Parameters in messages: the core names them as in Python, in backquotes, and the front ends name them where the user
gave them: as a flag, a variable, a setting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Literal

from lmsupply_cli.config.layers import Source
from lmsupply_cli.config.table import SETTINGS

_OTHERS = frozenset(
    {
        "debug",
        "trust_model_files",
        "batch_size",
        "block_size",
        "accept_license",
        "choices",
        "raw",
        "json_schema",
        "regex",
        "grammar",
        "variant",
    }
)
_PARAMETER = re.compile(r"`([a-z_]+)(?:=([^`]*))?`")
Place = Source | Literal["chat", "line"]  # set by /set, or in a line of a batch
_places: ContextVar[Mapping[str, Place]] = ContextVar("places", default=MappingProxyType({}))


def name_by_place(places: Mapping[str, Place]) -> None:
    """From now on, until `named_by_place` ends, messages name a setting by the source of its value, or as a flag if it
    has none."""
    _places.set(places)


@contextmanager
def named_by_place(places: Mapping[str, Place]) -> Iterator[None]:
    """As `name_by_place`, in the block, on top of what holds outside."""
    token = _places.set({**_places.get(), **places})
    try:
        yield
    finally:
        _places.reset(token)


def as_flags(text: str) -> str:
    """`` `max_tokens=5` `` as `--max-tokens 5`, or by the place of the setting; anything else in backquotes stays as it
    is."""
    return _PARAMETER.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    name, value = found.groups()
    if name not in SETTINGS and name not in _OTHERS:
        return found[0]
    match _places.get().get(name):
        case "env":
            shown, equals = SETTINGS[name].env, "="
        case "file":
            shown, equals = f"the setting {name}", " = "
        case "template" | "preset" as place:
            shown, equals = f"the {place}'s {name}", " = "
        case "chat" | "line":
            shown, equals = name, " "
        case _:
            shown, equals = SETTINGS[name].flag if name in SETTINGS else "--" + name.replace("_", "-"), " "
    return shown if value is None else f"{shown}{equals}{value}"
