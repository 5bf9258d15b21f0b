"""`lmsupply run --batch`: a file of prompts, a file of answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.cli.run.batch_input import Line
from lmsupply_cli.cli.run.batch_output import GOES_ON, State, appending, error_row, state_of, write
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import EngineError, LmsupplyError, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.files import our_io_error
from lmsupply_cli.generation.batch import BatchItem, BatchListener, BatchRunner, one_by_one
from lmsupply_cli.generation.batch_plan import BatchPlan
from lmsupply_cli.generation.completion import Completion
from lmsupply_cli.generation.fitting import fit_messages
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.render.terminal import Terminal
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

    @classmethod
    def of(cls, done: Mapping[int, State]) -> Counts:
        """What was there before."""
        states = list(done.values())
        return cls(before=len(states), cut=states.count("cut"), bad=states.count("bad"))

    def add(self, row: Mapping[str, Any], state: State) -> None:
        if state == "bad":
            self.bad += 1
            return
        self.answered += 1
        self.cut += state == "cut"
        self.tokens += row["usage"]["completion_tokens"]


@dataclass(frozen=True, slots=True)
class _Made:
    """The prompt of a line; `notices`: what was left out of it."""

    asked: BatchItem
    notices: Sequence[Notice]


class BatchJob:
    """Answers what `out` does not hold yet. `describe` makes the run object of an answer."""

    def __init__(
        self,
        lines: Sequence[Line],
        out: Path,
        generator: TextGenerator,
        terminal: Terminal,
        *,
        size: int | None,
        guidance: Guidance | None,
        policy: Policy,
        describe: Describe,
        done: Mapping[int, State],
    ) -> None:
        """`done`: what `out` holds already; `size`: so many at once, where it is given. Raises UsageError, DoesNotFit,
        EngineError before anything is written."""
        self._lines, self._out, self._terminal = lines, out, terminal
        self._generator, self._guidance, self._policy, self._describe = generator, guidance, policy, describe
        self._left = deque(line for line in lines if line.index not in done)
        self._prepared: dict[int, _Made | LmsupplyError] = {}
        self._status, self._began = terminal.status(), time.monotonic()
        self.counts = Counts.of(done)
        self._runner = BatchRunner(generator, size=size, guidance=guidance, listener=_Shown(self))

    def run(self) -> Counts:
        """Raises UsageError; Ctrl-C leaves what is answered."""
        self._began = time.monotonic()
        with our_io_error(self._out, hint=GOES_ON), appending(self._out) as file:
            try:
                while self._left:
                    self._answer_part(file)
            except KeyboardInterrupt:
                self._status.clear()
                answered = f"{len(self._lines) - len(self._left)} of {len(self._lines)} lines"
                self._terminal.say(f"{answered} are in {self._out}; run the same command to continue")
                raise
            finally:
                self._status.clear()
        self.counts.seconds = time.monotonic() - self._began
        return self.counts

    def _answer_part(self, file: IO[str]) -> None:
        part, choice = self._next_part()
        why = one_by_one(choice)
        asked = [made.asked for _, made in part if isinstance(made, _Made)]
        answers = self._answers(asked, choice)
        for line, made in part:
            self.show(0)
            if isinstance(made, _Made):
                found, notices = next(answers), made.notices
                row = (
                    error_row(found)
                    if isinstance(found, LmsupplyError)
                    else self._describe(found, made.asked.options, [*made.notices, *why])
                )
            else:
                row, notices = error_row(made), ()
            self._status.clear()
            state = state_of(row, guided=self._guidance is not None)
            for text in [*(notice.text for notice in notices), *_reports(row, state)]:
                self._terminal.say(f"line {line.number}: {text}")
            write(file, {"schema": JSON_SCHEMA, "index": line.index, "id": line.id, "input": line.digest, **row})
            self.counts.add(row, state)
            self._left.popleft()
            del self._prepared[line.index]

    def _next_part(self) -> tuple[list[tuple[Line, _Made | LmsupplyError]], BatchPlan]:
        """The next lines with as many good ones as are answered next, and how."""
        part: list[tuple[Line, _Made | LmsupplyError]] = []
        good: list[BatchItem] = []
        for line in self._left:
            if line.index not in self._prepared:
                self._prepared[line.index] = self._prepare(line)
            made = self._prepared[line.index]
            part.append((line, made))
            if isinstance(made, _Made):
                good.append(made.asked)
                if len(good) == self._runner.size:
                    break
        choice = self._runner.choose(good) if good else BatchPlan(0, together=False)
        while sum(isinstance(made, _Made) for _, made in part) > choice.count:
            part.pop()
        return part, choice

    def _prepare(self, line: Line) -> _Made | LmsupplyError:
        if line.error:
            return line.error
        generator = self._generator
        try:
            options = generator.options.replaced(**line.options)
            if options.num_beams > 1:
                raise UsageError("beam search cannot be combined with batches", hint="leave out `num_beams`")
            generator.check_options(options, self._guidance)
            fitted = fit_messages(generator, line.messages, policy=self._policy, max_tokens=options.max_tokens)
            generator.check_prompt(fitted.prompt)
        except LmsupplyError as error:
            return error
        return _Made(BatchItem(fitted.prompt, options), fitted.notices)

    def _answers(self, asked: Sequence[BatchItem], choice: BatchPlan) -> Iterator[Completion | LmsupplyError]:
        if choice.together:
            try:
                yield from self._runner.together(asked)
                return
            except EngineError:  # one that cannot follow the guidance fails them all
                if self._guidance is None:
                    raise
        for one in asked:
            try:
                yield self._runner.alone(one)
            except EngineError as error:
                if self._guidance is None:
                    raise
                yield error

    def show(self, written: int) -> None:
        tokens = self.counts.tokens + written
        rate = f", {format_rate(tokens, time.monotonic() - self._began)}" if tokens else ""
        answered = len(self._lines) - len(self._left)
        self._status.show(f"batch: {answered} of {len(self._lines)} answered{rate}")

    def notice(self, notice: Notice) -> None:
        self._status.clear()
        self._terminal.notice(notice)


class _Shown(BatchListener):
    def __init__(self, job: BatchJob) -> None:
        self._job = job

    def progress(self, written_tokens: int) -> None:
        self._job.show(written_tokens)

    def notice(self, notice: Notice) -> None:
        self._job.notice(notice)


def _reports(row: Mapping[str, Any], state: State) -> list[str]:
    if state == "bad":
        return [row["error"]["message"]]
    return ["the answer ended before it was complete"] if state == "cut" else []
