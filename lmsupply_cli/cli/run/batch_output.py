"""The file of answers of `lmsupply run --batch`: a JSON object a line, and what is left of it after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.cli.run.batch_input import Line
from lmsupply_cli.errors import FileError, LmsupplyError, UsageError
from lmsupply_cli.files import is_absent, is_file, is_folder, our_io_error, parse_json, reason_of, resolved
from lmsupply_cli.locks import Busy, locked
from lmsupply_cli.render.sanitize import json_text

_BEGINNING = b'{"schema": %d, "index": ' % JSON_SCHEMA
GOES_ON = "free some space, and run it again: it goes on where it was"
State = Literal["whole", "cut", "bad"]  # cut: a guided answer that ended before it was complete


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
