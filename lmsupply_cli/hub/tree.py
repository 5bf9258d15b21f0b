"""What a repository holds at one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RepoTree:
    """`files`: path → bytes. `licence`: as the model card says, "" where it does not."""

    repo: str
    commit: str
    files: Mapping[str, int]
    licence: str = ""
    gated: bool = False
