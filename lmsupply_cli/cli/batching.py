"""`lmsupply run --batch`: a file of prompts, a file of answers, and what is left of it after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lmsupply_cli.chat.files import read_text
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.config.table import GENERATION_KEYS
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.runtime.batch import Asked, answer_batch, largest_batch
from lmsupply_cli.runtime.fitting import fit_messages
from lmsupply_cli.runtime.generator import Completion, TextGenerator, complete
from lmsupply_cli.units import format_rate

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


@dataclass
class Counts:
    answered: int = 0
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
    done = _finished(out, lines)
    counts, status = Counts(before=len(done), bad=sum(done.values())), terminal.status()
    left = [line for line in lines if line.index not in done]
    said: dict[int, tuple[Notice, ...]] = {}  # of each line, what was left out of it
    began = time.monotonic()
    with _appending(out) as file:
        while left:
            part = _next_part(
                generator, left, size=size, free_bytes=free_bytes, guidance=guidance, policy=policy, said=said
            )
            taken = part[-1][0].index
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
                if isinstance(one, LmsupplyError):
                    counts.bad += 1
                    terminal.say(f"line {line.number}: {one.message}")
                    row = {"error": {"code": one.code, "message": one.message, "hint": one.hint}}
                else:
                    completion = next(answers)
                    counts.answered += 1
                    counts.tokens += completion.usage.completion_tokens
                    for notice in said.get(line.index, ()):
                        terminal.say(f"line {line.number}: {notice.text}")
                    row = describe(completion, one.options, said.get(line.index, ()))
                _write(file, {"schema": 1, "index": line.index, "id": line.id, "input": line.digest, **row})
            left = [line for line in left if line.index > taken]
    counts.seconds = time.monotonic() - began
    return counts


def _answers(
    generator: TextGenerator, asked: Sequence[Asked], guidance: Guidance | None, show: Any, terminal: Terminal
) -> list[Completion]:
    if not asked:
        return []
    if guidance is None:
        return answer_batch(generator, asked, progress=show, notice=terminal.notice)
    return [complete(generator.stream_prompt(one.prompt, one.options, guidance=guidance)) for one in asked]


def _next_part(
    generator: TextGenerator,
    left: Sequence[Line],
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
        one = _asked(generator, line, policy, said)
        part.append((line, one))
        if isinstance(one, Asked):
            good.append(one)
            if len(good) == (1 if guidance else size):
                break
    fits = largest_batch(generator.memory_shape, free_bytes, good, at_most=size) if good else 0
    while sum(isinstance(one, Asked) for _, one in part) > max(1, fits):
        part.pop()
    return part


def _asked(
    generator: TextGenerator, line: Line, policy: Policy, said: dict[int, tuple[Notice, ...]]
) -> Asked | LmsupplyError:
    if line.error:
        return line.error
    try:
        options = generator.options.replaced(**line.options)
        if options.num_beams > 1:
            raise UsageError("a batch has no beams", hint="leave num_beams out")
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


def _finished(out: Path, lines: Sequence[Line]) -> dict[int, bool]:
    """The lines that `out` has already, and whether they were bad. Raises UsageError where it has others."""
    done: dict[int, bool] = {}
    if not out.exists():
        return done
    for row in _answered(out):
        index, digest = row.get("index"), row.get("input")
        if not isinstance(index, int) or not 0 <= index < len(lines) or lines[index].digest != digest:
            raise UsageError(
                f"{out} holds something else than answers to these prompts", hint="name another file with --out"
            )
        done[index] = "error" in row
    return done


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
