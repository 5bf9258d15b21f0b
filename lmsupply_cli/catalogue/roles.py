"""Roles: what a model is good for, and the models for each, so that `role:fast` names one for any machine.

The rules for the list of a role:

1. The license is permissive, and the layout of the repository is known.
2. The best answers come first. Of two models of one size the newer is better.
3. Each next model needs less memory than the one before.

The first model that fits the available memory, with a margin, is used; if none fits, the last (`recommend_model` in
`loading/recommend.py`). The user's own entries with that role come before the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from lmsupply_cli.errors import ModelNotFound

PREFIX = "role:"
_ROLE = re.compile(r"role:([\w.-]+)")


class Role(NamedTuple):
    """`help`: one line; `refs`: entries of the catalogue, the best first."""

    name: str
    help: str
    refs: tuple[str, ...]


ROLES: tuple[Role, ...] = (
    Role(
        "default",
        "the best all-round chat model for this machine",
        ("phi-4-mini", "qwen3-4b", "qwen3-1.7b", "qwen3-0.6b"),
    ),
    Role("quality", "the best answers, slower", ("phi-4", "qwen3-8b", "phi-4-mini", "qwen3-4b", "qwen3-1.7b")),
    Role("fast", "the quickest answers", ("qwen3-0.6b",)),
    Role("small", "good answers with little memory", ("qwen3-1.7b", "qwen3-0.6b")),
    Role("multilingual", "many languages", ("qwen3-4b", "qwen3-1.7b", "qwen3-0.6b")),
    Role(
        "reasoning",
        "thinks before it answers: math, logic, code",
        ("phi-4-mini-reasoning", "qwen3-4b", "qwen3-1.7b", "qwen3-0.6b"),
    ),
)


def roles_of(ref: str) -> tuple[str, ...]:
    """The roles of a built-in entry."""
    return tuple(role.name for role in ROLES if ref in role.refs)


def role_name(name: str) -> str:
    """`"Role:Fast"` → `"fast"`; "" if `name` is not written as a role."""
    found = _ROLE.fullmatch(name.lower())
    return found[1] if found else ""


def unknown_role(name: str, known: Iterable[str]) -> ModelNotFound:
    return ModelNotFound(
        f"unknown role {name!r}", hint="roles: " + ", ".join(f"{PREFIX}{role}" for role in dict.fromkeys(known))
    )
