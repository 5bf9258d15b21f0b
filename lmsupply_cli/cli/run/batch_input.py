"""The prompts of a file for `lmsupply run --batch`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsupply_cli.chat.files import read_text
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.config.table import GENERATION_KEYS
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.files import expanded, parse_json, size_of

_STREAM_BYTES = 256_000_000
_KEYS = {"prompt", "messages", "id", "options"}


@dataclass(frozen=True, slots=True)
class Line:
    """One prompt of the file. `error`: why it cannot be asked; `digest`: of the line, to know it again."""

    index: int
    number: int
    id: Any
    messages: tuple[ChatMessage, ...]
    options: Mapping[str, Any]
    digest: str
    error: LmsupplyError | None = None


def read_lines(path: Path, *, system: str | None, takes_options: bool = True) -> list[Line]:
    """The prompts of a .jsonl file, or of any other a prompt a line; `takes_options`: a line may have generation options.
    Raises UsageError."""
    as_json = path.suffix.lower() in (".jsonl", ".json", ".ndjson")
    found: list[Line] = []
    for number, text in enumerate(read_text(path, limit_bytes=_limit(path)).split("\n"), 1):
        if text.strip():
            found.append(_line(text, len(found), number, as_json=as_json, system=system, takes_options=takes_options))
    if not found:
        raise UsageError(f"there is no prompt in {path}", hint='a line such as {"prompt": "hello"}')
    return found


def _limit(path: Path) -> int:
    """A file may be of any size; what has no size of its own, a pipe or a device, need not have an end."""
    return max(_STREAM_BYTES, size_of(expanded(path)))


def _line(text: str, index: int, number: int, *, as_json: bool, system: str | None, takes_options: bool) -> Line:
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name: Any = None
    options: dict[str, Any] = {}
    try:
        messages = [ChatMessage.user(text.strip())]
        if as_json:
            row = _row(text)
            name = row.get("id")
            messages = _messages(row)
            options = _options(row, GENERATION_KEYS if takes_options else ())
        if system and messages[0].role != "system":
            messages.insert(0, ChatMessage.system(system))
        for message in messages:
            check_text(message.content)
    except LmsupplyError as error:
        return Line(index, number, name, (), {}, digest, error)
    return Line(index, number, name, tuple(messages), options, digest)


def _row(text: str) -> dict[str, Any]:
    row = parse_json(text, "the line", error=UsageError)
    if not isinstance(row, dict):
        raise UsageError("no JSON object", hint='{"prompt": "…"} or {"messages": […]}')
    return row


def _messages(row: Mapping[str, Any]) -> list[ChatMessage]:
    prompt, messages = row.get("prompt"), row.get("messages")
    if isinstance(prompt, str) and prompt.strip() and messages is None:
        return [ChatMessage.user(prompt)]
    if prompt is None and isinstance(messages, list) and all(isinstance(m, dict) for m in messages):
        return as_messages(messages)
    raise UsageError("it needs either a prompt that is text or a list of messages")


def _options(row: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Generation options, in `options` or beside the prompt."""
    given = row.get("options", {})
    if not isinstance(given, dict):
        raise UsageError("options is no JSON object")
    whole = {key: value for key, value in row.items() if key not in _KEYS} | given
    unknown = [key for key in whole if key not in known]
    if unknown:
        keys = "options: " + ", ".join(known) if known else "a line has a prompt or messages, and an id"
        raise UsageError(f"unknown option {unknown[0]!r}", hint=keys)
    found = {key: tuple(value) if isinstance(value, list) else value for key, value in whole.items()}
    GenerationOptions().replaced(**found)
    return found
