"""`lmsupply run --batch`: a file of prompts, a file of answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.cli.batch_input import Line
from lmsupply_cli.cli.batch_output import State, appending, finished, state_of, write
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import EngineError, LmsupplyError, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.runtime.batch import Asked, answer_alone, answer_batch, largest_batch
from lmsupply_cli.runtime.fitting import fit_messages
from lmsupply_cli.runtime.generator import Completion, TextGenerator
from lmsupply_cli.units import format_rate

Describe = Callable[[Completion, GenerationOptions, Sequence[Notice]], Mapping[str, Any]]


@dataclass
class Counts:
    answered: int = 0
    cut: int = 0
    bad: int = 0
    before: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, row: Mapping[str, Any], state: State) -> None:
        if state == "bad":
            self.bad += 1
            return
        self.answered += 1
        self.cut += state == "cut"
        self.tokens += row["usage"]["completion_tokens"]


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
    describe: Describe,
) -> Counts:
    """Answer what `out` does not hold yet. `describe` makes the run object of a completion. Raises UsageError; Ctrl-C
    leaves what is answered."""
    done = finished(out, lines, guided=guidance is not None)
    states = list(done.values())
    counts = Counts(before=len(done), cut=states.count("cut"), bad=states.count("bad"))
    status = terminal.status()
    if not generator.model.takes_batches(guidance):
        size = 1
    left = deque(line for line in lines if line.index not in done)
    said: dict[int, tuple[Notice, ...]] = {}  # of each line, what was left out of it
    began = time.monotonic()

    def show(written: int) -> None:
        tokens = counts.tokens + written
        rate = f", {format_rate(tokens, time.monotonic() - began)}" if tokens else ""
        status.show(f"batch: {len(lines) - len(left)} of {len(lines)} answered{rate}")

    with appending(out) as file:
        while left:
            part = _next_part(
                generator, left, size=size, free_bytes=free_bytes, guidance=guidance, policy=policy, said=said
            )
            show(0)
            try:
                asked = [one for _, one in part if isinstance(one, Asked)]
                answers = iter(_answers(generator, asked, guidance, show, terminal))
            except KeyboardInterrupt:
                status.clear()
                terminal.say(f"{len(lines) - len(left)} of {len(lines)} lines are in {out}; the same command goes on")
                raise
            finally:
                status.clear()
            for line, one in part:
                left.popleft()
                notices = said.pop(line.index, ())
                row = _row(next(answers), one, notices, describe) if isinstance(one, Asked) else _error(one)
                state = state_of(row, guided=guidance is not None)
                for text in [*(notice.text for notice in notices), *_reports(row, state)]:
                    terminal.say(f"line {line.number}: {text}")
                counts.add(row, state)
                write(file, {"schema": 1, "index": line.index, "id": line.id, "input": line.digest, **row})
    counts.seconds = time.monotonic() - began
    return counts


def _row(
    found: Completion | LmsupplyError, asked: Asked, notices: Sequence[Notice], describe: Describe
) -> Mapping[str, Any]:
    return _error(found) if isinstance(found, LmsupplyError) else describe(found, asked.options, notices)


def _error(error: LmsupplyError) -> Mapping[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


def _reports(row: Mapping[str, Any], state: State) -> list[str]:
    if state == "bad":
        return [row["error"]["message"]]
    return ["the answer ended before it was complete"] if state == "cut" else []


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
