"""The files of a batch: prompts in, a JSON object per line out, and what a kill left of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.chat.files import read_text
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.config.table import GENERATION_KEYS
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import FileError, LmsupplyError, UsageError
from lmsupply_cli.files import (
    expanded,
    is_absent,
    is_file,
    is_folder,
    our_io_error,
    parse_json,
    reason_of,
    resolved,
    size_of,
)
from lmsupply_cli.locks import Busy, locked
from lmsupply_cli.render.sanitize import json_text

_BEGINNING = b'{"schema": %d, "index": ' % JSON_SCHEMA
GOES_ON = "free some space, and run it again: it goes on where it was"
State = Literal["whole", "cut", "bad"]  # cut: a guided answer that ended before it was complete
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


def check_places(source: Path, out: Path) -> None:
    """Raises UsageError where `out` cannot be a file beside `source`."""
    if is_folder(out):
        raise UsageError(f"cannot write {out}: it is a folder")
    if not is_folder(resolved(out).parent):
        raise UsageError(f"cannot write {out}: its folder does not exist")
    if resolved(source) == resolved(out):
        raise UsageError("--out would overwrite the prompts", hint="name another file")


def finished(out: Path, lines: Sequence[Line], *, guided: bool) -> dict[int, State]:
    """The lines that `out` has already, and how they went. Raises UsageError where it has others."""
    done: dict[int, State] = {}
    if is_absent(out):
        return done
    for row in _answered(out):
        index, digest = row.get("index"), row.get("input")
        if not isinstance(index, int) or not 0 <= index < len(lines) or lines[index].digest != digest:
            raise UsageError(f"{out} holds answers to other prompts or choices", hint="name another file with --out")
        done[index] = state_of(row, guided=guided)
    return done


def state_of(row: Mapping[str, Any], *, guided: bool) -> State:
    if "error" in row:
        return "bad"
    if not guided:
        return "whole"
    return "whole" if row.get("complete", row.get("finish_reason") == "stop") else "cut"


def _answered(out: Path) -> Iterator[dict[str, Any]]:
    try:
        text = out.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read {out}: {reason_of(error)}") from error
    for line in text.split("\n")[:-1]:  # splitlines would also end a line at characters that answers may hold
        try:
            row = parse_json(line, str(out))
        except FileError:
            row = None
        yield row if isinstance(row, dict) else {}


@contextmanager
def owned(out: Path) -> Iterator[None]:
    """Nobody else writes `out` in the block. Raises UsageError for what is no file, or is being written; FileError."""
    if not is_absent(out) and not is_file(out):
        raise UsageError(
            f"cannot write {out}: it is not a regular file", hint="name a file: it is read when the batch goes on"
        )
    try:
        with locked(out.with_name(f".{out.name}.lock")):
            yield
    except Busy:
        raise UsageError(
            f"another lmsupply is writing {out}", hint="wait for it, or name another file with --out"
        ) from None


def appending(out: Path) -> IO[str]:
    """Open to append, after the last whole line: what a kill cut off is asked again.

    Raises UsageError where that is not the beginning of a row of ours, FileError.
    """
    with our_io_error(out):
        with out.open("a+b") as file:
            file.seek(0)
            data = file.read()
            whole = data.rfind(b"\n") + 1
            cut = data[whole:]
            if not (cut.startswith(_BEGINNING) or _BEGINNING.startswith(cut)):
                raise UsageError(
                    f"{out} does not end with answers of a batch",
                    hint="name another file with --out: nothing was changed",
                )
            file.truncate(whole)
        return out.open("a", encoding="utf-8")


def write(file: IO[str], row: Mapping[str, Any]) -> None:
    """Raises FileError."""
    with our_io_error(file.name, hint=GOES_ON):
        file.write(json_text(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def error_row(error: LmsupplyError) -> dict[str, Any]:
    """Of a line that could not be answered."""
    return {
        "error": {"code": error.code, "message": error.message.replace("`", ""), "hint": error.hint.replace("`", "")}
    }
