"""What the command line of `lmsupply run` asks for, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Request:
    words: Sequence[str]
    model: str | None
    system: str | None
    files: Sequence[Path]
    raw: bool
    form: Literal["text", "json", "stream-json"]
    both_json: bool
    hold: bool
    stats: bool
    show_prompt: bool
    no_stdin: bool
    trust: bool
    pull: bool
    accepted: bool
    preset: str | None
    quiet: bool
    plain: bool = False
    flags: dict[str, Any] = field(default_factory=dict)
    json_schema: str | None = None
    regex: str | None = None
    grammar: str | None = None
    format: str | None = None
    batch: Path | None = None
    out: Path | None = None
    batch_size: int | None = None
    dry_run: bool = False
