"""`lmsupply run --batch`: a file of prompts, a file of answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.cli.batch_files import (
    GOES_ON,
    Line,
    State,
    appending,
    check_places,
    error_row,
    finished,
    owned,
    read_lines,
    state_of,
    write,
)
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.exit import ERROR, OK
from lmsupply_cli.cli.inputs import PromptRequest, split_words
from lmsupply_cli.cli.prepare import ModelRequest, load_model, prepare, say_load_plan
from lmsupply_cli.cli.run.output import run_object
from lmsupply_cli.cli.run.single import overflow_policy
from lmsupply_cli.config.layers import Value
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import EngineError, LmsupplyError, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.files import our_io_error
from lmsupply_cli.generation.batch import BatchItem, BatchListener, BatchRunner, one_by_one
from lmsupply_cli.generation.batch_plan import BatchPlan
from lmsupply_cli.generation.completion import Completion
from lmsupply_cli.generation.fitting import fit_messages
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.units import format_rate

Describe = Callable[[Completion, GenerationOptions, Sequence[Notice]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """`size`: prompts at once, None to choose."""

    source: Path
    out: Path
    size: int | None = None

    @classmethod
    def of(
        cls, source: Path | None, out: Path | None, size: int | None = None, *, command: str = "run"
    ) -> BatchRequest:
        """Raises UsageError where one of the files is not given, or cannot be used."""
        if source is None or out is None:
            raise UsageError(
                "--batch and --out must be used together",
                hint=f"lmsupply {command} --batch prompts.jsonl --out answers.jsonl",
            )
        check_places(source, out)
        return cls(source, out, size)


def run_batch(
    ctx: Context,
    wanted: ModelRequest,
    asked: PromptRequest,
    guidance: Guidance | None,
    request: BatchRequest,
    *,
    dry_run: bool = False,
) -> int:
    """The exit code: 1 where a line could not be answered. Raises the errors of what it uses."""
    wanted = batch_model(ctx, wanted, asked)
    with owned(request.out):
        lines = read_lines(request.source, system=asked.system)
        done = finished(request.out, lines, guided=guidance is not None)
        if len(done) == len(lines):
            return _told(ctx, Counts.of(done), request.out)
        if guidance:
            check_guidance(guidance)
        prepared = prepare(ctx, wanted, guidance=guidance)
        if prepared.options.num_beams > 1:
            raise UsageError("beam search cannot be combined with batches", hint="leave out `num_beams`")
        if ctx.settings.get("speculative") != "off":
            ctx.notice(Notice("speculative", "speculative decoding is not used in a batch"))
        plan = prepared.plan(ctx.settings)
        if dry_run:
            say_load_plan(ctx, plan)
            return OK
        with load_model(ctx, plan) as generator:
            describe = _describe(ctx, generator, prepared.values)
            job = BatchJob(ctx, lines, request, generator, guidance=guidance, describe=describe, done=done)
            counts = job.run()
    return _told(ctx, counts, request.out)


def batch_model(ctx: Context, wanted: ModelRequest, asked: PromptRequest) -> ModelRequest:
    """The model of a batch: the only word there may be. Raises UsageError."""
    name, words = split_words(ctx, asked, model=wanted.name)
    if words and name is None and len(words) == 1:
        name = words.pop()
    if words:
        raise UsageError("--batch reads its prompts from the file and writes JSON: leave out a prompt")
    return replace(wanted, name=name)


def _told(ctx: Context, counts: Counts, out: Path) -> int:
    """The exit code."""
    cut = f", {counts.cut} cut short" if counts.cut else ""
    before = f", {counts.before} done before" if counts.before else ""
    bad = f", {counts.bad} could not be answered" if counts.bad else ""
    written = f"; {counts.tokens:,} tokens at {format_rate(counts.tokens, counts.seconds)}" if counts.tokens else ""
    ctx.terminal.say(f"{counts.answered} answered{cut}{before}{bad}{written}: {out}")
    return ERROR if counts.bad or counts.cut else OK


def _describe(ctx: Context, generator: TextGenerator, values: Mapping[str, Value]) -> Describe:
    """The run object of each answer, with the notices of before the first one."""
    before = tuple(ctx.notices)

    def describe(answer: Completion, options: GenerationOptions, said: Sequence[Notice]) -> dict[str, Any]:
        own = {
            key: Value(value, values[key].source) if value == values[key].value else Value(value, "flag")
            for key, value in options.as_dict(guided=answer.complete is not None).items()
        }
        thoughts = ctx.settings.get("think") == "on"
        return run_object(answer, generator.info, own, [*before, *said], thoughts=thoughts)

    return describe


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
        ctx: Context,
        lines: Sequence[Line],
        request: BatchRequest,
        generator: TextGenerator,
        *,
        guidance: Guidance | None,
        describe: Describe,
        done: Mapping[int, State],
    ) -> None:
        """`done`: what `out` contains already. Raises UsageError, DoesNotFit, EngineError before anything is written."""
        self._lines, self._out, self._terminal = lines, request.out, ctx.terminal
        self._generator, self._guidance, self._describe = generator, guidance, describe
        self._policy = overflow_policy(ctx.settings)
        self._left = deque(line for line in lines if line.index not in done)
        self._prepared: dict[int, _Made | LmsupplyError] = {}
        self._status, self._began = self._terminal.status(), time.monotonic()
        self.counts = Counts.of(done)
        self._runner = BatchRunner(generator, size=request.size, guidance=guidance, listener=_Shown(self))

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
