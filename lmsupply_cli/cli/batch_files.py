"""The answers of a batch: a JSON object per line, into a file that can be resumed, or into a stream.

A file is only ever appended to. An answer that replaces a failed one stays at its end until the batch ends, and
then the file is written anew in the order of the prompts; so a kill at any moment loses no answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from lmsupply_cli import paths
from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.cli.batch_lines import STDIN, Line
from lmsupply_cli.cli.exit import ERROR, OK
from lmsupply_cli.cli.options import whole_number
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.config.table import SETTINGS
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
from lmsupply_cli.render.terminal import Status, Terminal
from lmsupply_cli.store.locate import LocatedModel
from lmsupply_cli.units import cut, format_rate

# short: a free answer that a limit cut; cut: a guided answer that ended before it was complete
State = Literal["whole", "short", "cut", "bad"]
_SPACE = "free some space, and run the same command to continue"
_OTHER = "name a different file with --out"
_LONGEST = 256_000_000
_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str, sort_keys=True).encode()).hexdigest()[:12]


def model_digest(model: LocatedModel) -> str:
    """Of what decides its answers: repo, commit and variant, or for a plain folder its config and the sizes of its files."""
    if model.repo and model.commit:
        return digest_of([model.repo.lower(), model.commit, model.variant])
    config = model.path / "genai_config.json"
    with suppress(OSError):
        names = sorted(path.name for path in model.path.iterdir() if is_file(path))
        return digest_of([config.read_bytes().hex(), [(name, size_of(model.path / name)) for name in names]])
    return digest_of(str(model.path))


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """`out`: None for stdout; `size`: prompts at once, None to choose; `retry`: answer again what failed."""

    source: Path
    out: Path | None
    size: int | None = None
    retry: bool = False

    @classmethod
    def of(
        cls,
        source: str | None,
        out: str | None,
        size: str | None = None,
        *,
        retry: bool = False,
        no_stdin: bool = False,
        command: str = "run",
    ) -> BatchRequest:
        """Raises UsageError if a file is not given or cannot be used."""
        if source is None:
            given = "--out" if out is not None else "--retry-failed" if retry else "--batch-size"
            raise UsageError(f"{given} needs --batch", hint=f"lmsupply {command} --batch prompts.jsonl")
        prompts, answers = expanded(source), None if out is None or out in _STDOUT else expanded(out)
        if prompts == STDIN and no_stdin:
            raise UsageError("--no-stdin cannot be combined with --batch -", hint="name a file")
        if retry and (answers is None or not (is_absent(answers) or is_file(answers))):
            raise UsageError("--retry-failed needs a file with --out", hint="only a file can be read again")
        if answers is not None:
            _check_places(prompts, answers)
        return cls(prompts, answers, None if size is None else whole_number("--batch-size", size, 1, 32), retry)


def _check_places(source: Path, out: Path) -> None:
    if is_folder(out):
        raise UsageError(f"cannot write {out}: it is a folder")
    if not is_folder(resolved(out).parent):
        raise UsageError(f"cannot write {out}: its folder does not exist")
    if source != STDIN and resolved(source) == resolved(out):
        raise UsageError("--out would overwrite the prompts", hint="name another file")


@contextmanager
def owned(out: Path | None) -> Iterator[None]:
    """Nobody else writes the file `out` in the block; streams have no owner. Raises UsageError, FileError."""
    if out is None or not (is_absent(out) or is_file(out)):
        yield
        return
    try:
        with _locked(resolved(out)):
            yield
    except Busy:
        raise UsageError(f"another lmsupply is writing {out}", hint=f"wait for it, or {_OTHER}") from None


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """With a lock in the state folder, or beside the file where that folder cannot be written."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(paths.state_dir() / "locks" / f"batch-{digest_of(str(out))}.lock"))
        except FileError:
            held.enter_context(locked(out.with_name(f".{out.name}.lock")))
        yield


def run_of(
    model: LocatedModel,
    settings: Settings,
    *,
    system: str | None,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What decides the answers beside the prompts, for the rows: digests, and the `options` that are not the defaults.
    `more`: other things, None if there are none."""
    chat = [settings.get("chat_format"), settings.get("think") == "off", settings.get("reasoning_effort")]
    changed = {key: value for key, value in (options or {}).items() if value != SETTINGS[key].default}
    return {
        "model": model.ref,
        "files": model_digest(model),
        "system": digest_of(system) if system else None,
        **{key: None if value is None else digest_of(value) for key, value in more.items()},
        "chat": digest_of(chat),
        **({} if options is None else {"options": changed}),
    }


def state_of(row: Mapping[str, Any], *, guided: bool) -> State:
    if "error" in row:
        return "bad"
    if row.get("finish_reason") in ("memory", "cancelled"):
        return "cut"
    if not guided:
        return "short" if row.get("finish_reason") == "length" else "whole"
    return "whole" if row.get("complete", row.get("finish_reason") == "stop") else "cut"


class Answers:
    """Where the answers to `lines` go: the file `out`, another kind of `out` (a pipe, a device), or stdout for None.

    `done`: how the lines went whose answers are there already. Only a regular file is ever read. Raises UsageError for
    one that has anything but answers to these lines; it is left as it is.
    """

    def __init__(self, out: Path | None, lines: Sequence[Line], terminal: Terminal, *, guided: bool) -> None:
        self.out = out
        self.done: dict[int, State] = {}
        self.resumable = out is not None and (is_absent(out) or is_file(out))
        self._lines, self._terminal, self._guided = lines, terminal, guided
        self._run: Mapping[str, Any] = {}
        self._earlier: list[dict[str, Any]] = []  # a row for each way in which rows were made
        self._at: dict[int, tuple[int, int]] = {}  # index → where its last row stands
        self._end = 0
        self._in_order, self._last = True, -1
        self._new_limit = False
        self._file: IO[bytes] | None = None
        if out is not None and is_file(out):
            self._read(out)

    @property
    def place(self) -> str:
        """For the end of a line about them."""
        return f": {self.out}" if self.out else ""

    @property
    def total(self) -> int:
        """The lines, with and without an answer."""
        return len(self._lines)

    def check_run(self, run: Mapping[str, Any], *, retry: bool) -> None:
        """`run`: how the answers are made now. Raises UsageError that names how earlier ones were made differently;
        with `retry`, the token limit may differ."""
        self._run = run = json.loads(json.dumps(run))  # as it is read
        self._new_limit = any(_limit_of(row.get("run")) != _limit_of(run) for row in self._earlier)
        for row in self._earlier:
            if difference := _difference(row, run, retry=retry):
                raise UsageError(
                    f"{self.out} {difference}", hint=f"repeat the earlier command to continue it, or {_OTHER}"
                )

    def left(self, *, retry: bool) -> list[Line]:
        """The lines to answer. With `retry` those that failed and, if the token limit is another one, those that it cut."""
        again = {"cut", "bad"} | ({"short"} if self._new_limit else set()) if retry else set()
        return [line for line in self._lines if (s := self.done.get(line.index)) is None or s in again]

    @contextmanager
    def answering(self, counts: Counts) -> Iterator[Status]:
        """Open in the block, for `write`, with a status line. Ctrl-C says how far it came. Raises FileError."""
        status, began = self._terminal.status(), time.monotonic()
        try:
            with self._opened():
                yield status
        except KeyboardInterrupt:
            status.clear()
            done = f"{len(self._at)} of {self.total} prompts are done"
            more = f"; run the same command to continue{self.place}" if self.resumable else ""
            self._terminal.say(done + more)
            raise
        finally:
            status.clear()
        counts.seconds = time.monotonic() - began

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """After the block, the answers are in the order of the lines."""
        if self.out is None:
            yield
            return
        with our_io_error(self.out, hint=_SPACE if self.resumable else ""):
            self._file = self.out.open("ab") if self.resumable else os.fdopen(os.open(self.out, os.O_WRONLY), "wb")
            if self.resumable:
                self._file.truncate(self._end)
        try:
            yield
        finally:
            with suppress(OSError):  # whatever failed has been told
                self._file.close()
            self._file = None
            self.sort()

    def sort(self) -> None:
        """Rewrite the file if its rows are not in the order of the lines. Raises FileError."""
        if self._in_order or self.out is None:
            return
        real = resolved(self.out)
        temporary = real.with_name(f".{real.name[:100]}.lmsupply.tmp")
        with our_io_error(self.out, hint=_SPACE):
            try:
                temporary.unlink(missing_ok=True)
                with real.open("rb") as old, temporary.open("xb") as new:
                    shutil.copymode(real, temporary)
                    for index in sorted(self._at):
                        start, length = self._at[index]
                        old.seek(start)
                        new.write(old.read(length))
                    new.flush()
                    os.fsync(new.fileno())
                temporary.replace(real)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
        self._in_order = True

    def write(self, line: Line, row: Mapping[str, Any]) -> None:
        """Raises FileError; BrokenPipeError if nothing reads the stream any more."""
        text = json_text({**_head(line), "run": self._run, **row}) + "\n"
        if self.out is None:
            self._terminal.exact(text)
            self._place(line.index, len(text))
            return
        assert self._file is not None
        data, gone = text.encode(), None
        with our_io_error(self.out, hint=_SPACE if self.resumable else ""):
            try:
                self._file.write(data)
                self._file.flush()
                self._place(line.index, len(data))
                if self.resumable:
                    os.fsync(self._file.fileno())
            except BrokenPipeError as error:
                gone = error
        if gone:
            raise gone

    def _place(self, index: int, length: int) -> None:
        self._in_order, self._last = self._in_order and index > self._last, index
        self._at[index] = (self._end, length)
        self._end += length

    def _read(self, out: Path) -> None:
        try:
            with out.open("rb") as file:
                while raw := file.readline(_LONGEST):
                    if not raw.endswith(b"\n"):
                        self._check_tail(raw)
                        return
                    self._take(raw)
        except OSError as error:
            raise UsageError(f"cannot read {out}: {reason_of(error)}") from error

    def _take(self, raw: bytes) -> None:
        try:
            row = parse_json(raw, "the row")
        except FileError:
            row = None
        if not isinstance(row, dict) or not {"schema", "index", "id", "input"} <= row.keys():
            raise self._foreign()
        index = row["index"]
        if not isinstance(index, int) or not 0 <= index < len(self._lines):
            raise self._others()
        line = self._lines[index]
        if line.digest != row["input"]:
            if "error" not in row:
                raise self._others()
            self._place(index, len(raw))  # a line that failed may have been corrected since
            return
        if not any(row.get("run") == one.get("run") for one in self._earlier):
            self._earlier.append(row)
        self.done[index] = state_of(row, guided=self._guided or line.guidance is not None)
        self._place(index, len(raw))

    def _check_tail(self, tail: bytes) -> None:
        """What a kill cut off can only be the beginning of an answer to one of the lines."""
        for line in self._lines:
            head = json_text(_head(line))[:-1].encode() + b', "'
            if head.startswith(tail) or tail.startswith(head):
                return
        raise self._foreign() if not self.done else self._others()

    def _foreign(self) -> UsageError:
        return UsageError(
            f"{self.out} contains something other than answers of a batch", hint=f"{_OTHER}; nothing was changed"
        )

    def _others(self) -> UsageError:
        return UsageError(f"{self.out} contains answers to other prompts", hint=f"{_OTHER}; nothing was changed")


def _head(line: Line) -> dict[str, Any]:
    return {"schema": JSON_SCHEMA, "index": line.index, "id": line.id, "input": line.digest}


_PARTS = {
    "system": "system prompt", "guidance": "guidance", "choices": "choices", "chat": "chat format or reasoning options",
}  # fmt: skip


def _limit_of(run: Any) -> Any:
    """The token limit that was set, None for the default."""
    options = run.get("options") if isinstance(run, dict) else None
    return options.get("max_tokens") if isinstance(options, dict) else None


def _difference(row: Mapping[str, Any], run: Mapping[str, Any], *, retry: bool) -> str:
    """How `row` was made differently from `run`; "" if it was not."""
    old = row.get("run")
    if not isinstance(old, Mapping):
        return "does not say how its answers were made"
    if old.get("files") != run["files"]:
        if old.get("model") != run["model"]:
            return f"was made with model {old.get('model')}; this run uses {run['model']}"
        return f"was made with other files of model {run['model']}"
    for key, name in _PARTS.items():
        was, now = old.get(key), run.get(key)
        if was == now:
            continue
        if now is None:
            return f"was made with a {name}; this run has none" if key == "system" else f"was made with {name}"
        if was is None:
            return f"was made without {'a ' if key == 'system' else ''}{name}"
        return f"was made with {'other' if key in ('choices', 'chat') else 'another'} {name}"
    was, now = old.get("options") or {}, run.get("options") or {}
    for key in [*now, *was]:
        if was.get(key) != now.get(key) and not (retry and key == "max_tokens"):
            return f"was made with {key} {_shown(was.get(key))}; this run uses {_shown(now.get(key))}"
    return ""


def _shown(value: Any) -> str:
    return "unset" if value is None else cut(json.dumps(value), 60)


@dataclass
class Counts:
    """How the lines went: `before` are those that were answered earlier, `failed_before` those that failed then,
    `short_before` those that a limit cut off then and that are not retried."""

    answered: int = 0
    cut: int = 0
    short: int = 0
    bad: int = 0
    before: int = 0
    failed_before: int = 0
    short_before: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, done: Mapping[int, State], left: Sequence[Line], *, retry: bool = False) -> Counts:
        """What was there before and is not answered again."""
        again = {line.index for line in left}
        states = [state for index, state in done.items() if index not in again]
        failed = states.count("cut") + states.count("bad")
        short = states.count("short") if retry else 0
        return cls(before=len(states) - failed, failed_before=failed, short_before=short)

    def add(self, row: Mapping[str, Any], state: State) -> None:
        if state == "bad":
            self.bad += 1
            return
        self.answered += 1
        self.cut += state == "cut"
        self.short += state == "short"
        self.tokens += row["usage"].get("completion_tokens", 0)

    @property
    def failed(self) -> int:
        """Also earlier."""
        return self.bad + self.cut + self.failed_before


def say_counts(terminal: Terminal, counts: Counts, answers: Answers, *, verb: str) -> int:
    """The last lines of a batch; the exit code. `verb`: "answered" or "classified"."""
    parts = [f"{counts.answered} {verb}"]
    parts += [f"{counts.cut} of them cut off"] if counts.cut else []
    parts += [f"{counts.short} of them cut by max_tokens or the context"] if counts.short else []
    parts += [f"{counts.before} already there"] if counts.before else []
    parts += [f"{counts.bad} failed"] if counts.bad else []
    parts += [f"{counts.failed_before} failed earlier"] if counts.failed_before else []
    rate = f"; {counts.tokens:,} tokens at {format_rate(counts.tokens, counts.seconds)}" if counts.tokens else ""
    terminal.say(f"{', '.join(parts)}{rate}{answers.place}")
    if counts.failed_before:
        terminal.say("hint: --retry-failed retries the prompts that failed earlier")
    if counts.short_before:
        terminal.say("hint: to retry the answers that were cut off, add --retry-failed and a larger --max-tokens")
    return ERROR if counts.failed else OK


def error_row(error: LmsupplyError) -> dict[str, Any]:
    """Of a line that could not be answered."""
    return {
        "error": {"code": error.code, "message": error.message.replace("`", ""), "hint": error.hint.replace("`", "")}
    }
