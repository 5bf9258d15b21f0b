"""`lmsupply run --batch`: a file of prompts, a file of answers, and what is left of it after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from lmsupply_cli.chat.files import read_text
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.config.table import GENERATION_KEYS
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import EngineError, LmsupplyError, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.runtime.batch import Asked, answer_alone, answer_batch, largest_batch
from lmsupply_cli.runtime.fitting import fit_messages
from lmsupply_cli.runtime.generator import Completion, TextGenerator
from lmsupply_cli.units import format_rate

_KEYS = {"prompt", "messages", "id", "options"}
State = Literal["whole", "cut", "bad"]  # cut: a guided answer that ended before it was complete


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


@dataclass
class Counts:
    answered: int = 0
    cut: int = 0
    bad: int = 0
    before: int = 0
    tokens: int = 0
    seconds: float = 0.0


def read_lines(path: Path, *, system: str | None) -> list[Line]:
    """The prompts of a .jsonl file, or of any other a prompt a line. Raises UsageError."""
    as_json = path.suffix.lower() in (".jsonl", ".json", ".ndjson")
    found: list[Line] = []
    for number, text in enumerate(read_text(path).splitlines(), 1):
        if text.strip():
            found.append(_line(text, len(found), number, as_json=as_json, system=system))
    if not found:
        raise UsageError(f"there is no prompt in {path}", hint='a line such as {"prompt": "hello"}')
    return found


def run_batch(
    lines: Sequence[Line],
    out: Path,
    generator: TextGenerator,
    terminal: Terminal,
    *,
    size: int,
    free_bytes: int | None,
    guidance: Guidance | None,
    policy: Policy,
    describe: Any,
) -> Counts:
    """Answer what `out` does not hold yet. `describe` makes the run object of a completion. Raises UsageError."""
    done = _finished(out, lines, guided=guidance is not None)
    states = list(done.values())
    counts = Counts(before=len(done), cut=states.count("cut"), bad=states.count("bad"))
    status = terminal.status()
    if not generator.model.takes_batches(guidance):
        size = 1
    left = deque(line for line in lines if line.index not in done)
    said: dict[int, tuple[Notice, ...]] = {}  # of each line, what was left out of it
    began = time.monotonic()
    with _appending(out) as file:
        while left:
            part = _next_part(
                generator, left, size=size, free_bytes=free_bytes, guidance=guidance, policy=policy, said=said
            )
            asked = [(line, one) for line, one in part if isinstance(one, Asked)]

            def show(written: int, first: int = counts.answered, tokens: int = counts.tokens) -> None:
                rate = format_rate(tokens + written, time.monotonic() - began)
                status.show(f"batch: {len(done) + first} of {len(lines)} answered, {rate}")

            show(0)
            try:
                answers = iter(_answers(generator, [one for _, one in asked], guidance, show, terminal))
            finally:
                status.clear()
            for line, one in part:
                left.popleft()
                found = next(answers) if isinstance(one, Asked) else one
                if isinstance(found, Completion) and isinstance(one, Asked):
                    counts.answered += 1
                    counts.tokens += found.usage.completion_tokens
                    for notice in said.get(line.index, ()):
                        terminal.say(f"line {line.number}: {notice.text}")
                    row = describe(found, one.options, said.get(line.index, ()))
                    if _state(row, guided=guidance is not None) == "cut":
                        counts.cut += 1
                        terminal.say(f"line {line.number}: the answer ended before it was complete")
                elif isinstance(found, LmsupplyError):
                    counts.bad += 1
                    terminal.say(f"line {line.number}: {found.message}")
                    row = {"error": {"code": found.code, "message": found.message, "hint": found.hint}}
                _write(file, {"schema": 1, "index": line.index, "id": line.id, "input": line.digest, **row})
    counts.seconds = time.monotonic() - began
    return counts


def _answers(
    generator: TextGenerator, asked: Sequence[Asked], guidance: Guidance | None, show: Any, terminal: Terminal
) -> Sequence[Completion | LmsupplyError]:
    try:
        return answer_batch(generator, asked, guidance=guidance, progress=show, notice=terminal.notice)
    except EngineError:
        if guidance is None:
            raise
    return [_answer(generator, one, guidance, terminal) for one in asked]  # one that cannot follow it fails them all


def _answer(
    generator: TextGenerator, asked: Asked, guidance: Guidance, terminal: Terminal
) -> Completion | LmsupplyError:
    try:
        return answer_alone(generator, asked, guidance, notice=terminal.notice)
    except EngineError as error:
        return error


def _next_part(
    generator: TextGenerator,
    left: Iterable[Line],
    *,
    size: int,
    free_bytes: int | None,
    guidance: Guidance | None,
    policy: Policy,
    said: dict[int, tuple[Notice, ...]],
) -> list[tuple[Line, Asked | LmsupplyError]]:
    """The next lines, up to as many good ones as fit at once."""
    part: list[tuple[Line, Asked | LmsupplyError]] = []
    good: list[Asked] = []
    for line in left:
        one = _asked(generator, line, guidance, policy, said)
        part.append((line, one))
        if isinstance(one, Asked):
            good.append(one)
            if len(good) == size:
                break
    fits = largest_batch(generator.memory_shape, free_bytes, good, at_most=size) if good else 0
    while sum(isinstance(one, Asked) for _, one in part) > max(1, fits):
        part.pop()
    return part


def _asked(
    generator: TextGenerator,
    line: Line,
    guidance: Guidance | None,
    policy: Policy,
    said: dict[int, tuple[Notice, ...]],
) -> Asked | LmsupplyError:
    if line.error:
        return line.error
    try:
        options = generator.options.replaced(**line.options)
        if options.num_beams > 1:
            raise UsageError("a batch has no beams", hint="leave num_beams out")
        generator.check_options(options, guidance)
        fitted = fit_messages(generator, line.messages, policy=policy, max_tokens=options.max_tokens)
        generator.check_prompt(fitted.prompt)
    except LmsupplyError as error:
        return error
    said[line.index] = fitted.notices
    return Asked(fitted.prompt, options)


def _line(text: str, index: int, number: int, *, as_json: bool, system: str | None) -> Line:
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name: Any = None
    options: dict[str, Any] = {}
    try:
        messages = [ChatMessage.user(text.strip())]
        if as_json:
            row = _row(text)
            name = row.get("id")
            messages = _messages(row)
            options = _options(row)
        if system and messages[0].role != "system":
            messages.insert(0, ChatMessage.system(system))
        for message in messages:
            check_text(message.content)
    except LmsupplyError as error:
        return Line(index, number, name, (), {}, digest, error)
    return Line(index, number, name, tuple(messages), options, digest)


def _row(text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise UsageError(f"no JSON: {error}") from error
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


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    """Generation options, in `options` or beside the prompt."""
    given = row.get("options", {})
    if not isinstance(given, dict):
        raise UsageError("options is no JSON object")
    whole = {key: value for key, value in row.items() if key not in _KEYS} | given
    unknown = [key for key in whole if key not in GENERATION_KEYS]
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r}", hint="options: " + ", ".join(GENERATION_KEYS))
    found = {key: tuple(value) if isinstance(value, list) else value for key, value in whole.items()}
    GenerationOptions().replaced(**found)
    return found


def _finished(out: Path, lines: Sequence[Line], *, guided: bool) -> dict[int, State]:
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
        done[index] = _state(row, guided=guided)
    return done


def _state(row: Mapping[str, Any], *, guided: bool) -> State:
    if "error" in row:
        return "bad"
    return "cut" if guided and row.get("finish_reason") != "stop" else "whole"


def _answered(out: Path) -> Iterator[dict[str, Any]]:
    text = out.read_bytes().decode("utf-8", errors="replace")
    whole = text if text.endswith("\n") else text[: text.rfind("\n") + 1]
    for line in whole.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield row if isinstance(row, dict) else {}


def _appending(out: Path) -> IO[str]:
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


def _write(file: IO[str], row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    file.flush()
    os.fsync(file.fileno())
