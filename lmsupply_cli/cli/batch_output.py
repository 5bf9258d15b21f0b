"""The file of answers of `lmsupply run --batch`: a JSON object a line, and what is left of it after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from lmsupply_cli.cli.batch_input import Line
from lmsupply_cli.errors import UsageError

State = Literal["whole", "cut", "bad"]  # cut: a guided answer that ended before it was complete


def finished(out: Path, lines: Sequence[Line], *, guided: bool) -> dict[int, State]:
    """The lines that `out` has already, and how they went. Raises UsageError where it has others."""
    done: dict[int, State] = {}
    if not out.exists():
        return done
    for row in _answered(out):
        index, digest = row.get("index"), row.get("input")
        if not isinstance(index, int) or not 0 <= index < len(lines) or lines[index].digest != digest:
            raise UsageError(
                f"{out} holds something else than answers to these prompts", hint="name another file with --out"
            )
        done[index] = state_of(row, guided=guided)
    return done


def state_of(row: Mapping[str, Any], *, guided: bool) -> State:
    if "error" in row:
        return "bad"
    return "cut" if guided and row.get("finish_reason") != "stop" else "whole"


def _answered(out: Path) -> Iterator[dict[str, Any]]:
    text = out.read_bytes().decode("utf-8", errors="replace")
    for line in text.split("\n")[:-1]:  # splitlines would also end a line at characters that answers may hold
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield row if isinstance(row, dict) else {}


def appending(out: Path) -> IO[str]:
    """Open to append, after the last whole line: what a kill cut off is asked again. Raises UsageError."""
    try:
        file = out.open("a+b")
        file.seek(0)
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
        file.close()
        return out.open("a", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error


def write(file: IO[str], row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    file.flush()
    os.fsync(file.fileno())
