"""`lmsupply run --batch`: a file of prompts, a file of answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmsupply_cli.cli.batch_files import (
    Answers,
    BatchRequest,
    Counts,
    State,
    error_row,
    owned,
    run_of,
    say_counts,
    state_of,
)
from lmsupply_cli.cli.batch_lines import Line, read_lines
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.exit import OK
from lmsupply_cli.cli.inputs import PromptRequest, split_words
from lmsupply_cli.cli.prepare import ModelRequest, load_model, overflow_policy, prepare, say_load_plan
from lmsupply_cli.cli.run.output import run_object
from lmsupply_cli.config.layers import Source, Value
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import EngineError, LmsupplyError, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.generation.batch import BatchItem, BatchListener, BatchRunner, one_by_one
from lmsupply_cli.generation.batch_plan import BatchPlan
from lmsupply_cli.generation.completion import Completion, cut_notice
from lmsupply_cli.generation.fitting import fit_messages
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.render.flags import named_by_place
from lmsupply_cli.store.locate import LocatedModel
from lmsupply_cli.units import count, format_rate

Describe = Callable[[Line, Completion, GenerationOptions, Sequence[Notice]], Mapping[str, Any]]


def run_batch(
    ctx: Context,
    wanted: ModelRequest,
    asked: PromptRequest,
    guidance: Guidance | None,
    request: BatchRequest,
    *,
    dry_run: bool = False,
) -> int:
    """The exit code: 1 if a line could not be answered. Raises the errors of what it uses."""
    wanted = batch_model(ctx, wanted, asked)
    with owned(request.out):
        lines = read_lines(request.source, ctx.terminal, system=asked.system)
        if guidance:
            lines = [_once_guided(line) for line in lines]
        answers = Answers(request.out, lines, ctx.terminal, guided=guidance is not None)
        prepared = prepare(ctx, wanted, guidance=guidance)
        if prepared.options.num_beams > 1:
            raise UsageError("beam search cannot be combined with batches", hint="leave out `num_beams`")
        options = {key: value.value for key, value in prepared.values.items()}
        followed = (guidance.kind, guidance.text) if guidance else None
        run = run_of(prepared.model, ctx.settings, system=asked.system, options=options, guidance=followed)
        answers.check_run(run, retry=request.retry)
        left = answers.left(retry=request.retry)
        counts = Counts.of(answers.done, left, retry=request.retry)
        if left or dry_run:
            if ctx.settings.get("speculative") != "off":
                ctx.notice(Notice("speculative", "speculative decoding is not used in a batch"))
            say_other_models(ctx, lines, prepared.model)
            plan = prepared.plan(ctx.settings.with_flags(speculative="off"))
            if dry_run:
                say_load_plan(ctx, plan)
                return OK
            with load_model(ctx, plan) as generator:
                describe = _describe(ctx, generator, prepared.values)
                job = BatchJob(ctx, left, answers, generator, size=request.size, guidance=guidance, describe=describe)
                job.run(counts)
        else:
            answers.sort()
    return say_counts(ctx.terminal, counts, answers, verb="answered")


def _once_guided(line: Line) -> Line:
    """With an error where the line has a response_format beside the guidance of all."""
    if line.guidance is None:
        return line
    error = UsageError("response_format cannot be combined with a schema, regex or grammar for all prompts")
    return replace(line, error=error)


def say_other_models(ctx: Context, lines: Sequence[Line], model: LocatedModel) -> None:
    """A note where requests name models that do not answer."""
    own = {model.ref.lower(), model.repo.lower()}
    names = list(dict.fromkeys(line.model for line in lines if line.model and line.model.lower() not in own))
    if names:
        more = f" and {count(len(names) - 1, 'other model')}" if len(names) > 1 else ""
        ctx.notice(Notice("other_model", f"the file asks for {names[0]}{more}; {model.ref} is used instead"))


def batch_model(ctx: Context, wanted: ModelRequest, asked: PromptRequest) -> ModelRequest:
    """The model of a batch: the only positional argument allowed. Raises UsageError."""
    name, words = split_words(ctx, asked, model=wanted.name)
    if words and name is None and len(words) == 1:
        name = words.pop()
    if words:
        raise UsageError("--batch reads its prompts from the file and writes JSON: leave out the prompt")
    return replace(wanted, name=name)


def _describe(ctx: Context, generator: TextGenerator, values: Mapping[str, Value]) -> Describe:
    """The run object of each answer, with the notices of before the first one."""
    before = tuple(ctx.notices)

    def source(line: Line, key: str, value: Any) -> Source:
        if key in (line.options or {}):
            return "flag"
        return values[key].source if value == values[key].value else "default"  # it follows from the other options

    def describe(line: Line, answer: Completion, options: GenerationOptions, said: Sequence[Notice]) -> dict[str, Any]:
        given = options.as_dict(guided=answer.complete is not None)
        own = {key: Value(value, source(line, key, value)) for key, value in given.items()}
        thoughts = ctx.settings.get("think") == "on"
        cut = cut_notice(answer, context_tokens=generator.context_tokens, fitting_tokens=generator.fitting_tokens)
        notices = [*before, *said, *([cut] if cut else [])]
        with named_by_place(dict.fromkeys(line.options or {}, "line")):
            return run_object(answer, generator.info, own, notices, thoughts=thoughts)

    return describe


@dataclass(frozen=True, slots=True)
class _Made:
    """The prompt of a line; `notices`: what was left out of it."""

    asked: BatchItem
    notices: Sequence[Notice]


class BatchJob:
    """Answers the `left` of all lines. `describe` makes the run object of an answer."""

    def __init__(
        self,
        ctx: Context,
        left: Sequence[Line],
        answers: Answers,
        generator: TextGenerator,
        *,
        size: int | None,
        guidance: Guidance | None,
        describe: Describe,
    ) -> None:
        """Raises UsageError, DoesNotFit, EngineError before anything is written."""
        self._written, self._terminal = answers, ctx.terminal
        self._generator, self._guidance, self._describe = generator, guidance, describe
        self._policy = overflow_policy(ctx.settings)
        self._left = deque(left)
        self._prepared: dict[int, _Made | LmsupplyError] = {}
        self._status, self._began = self._terminal.status(), time.monotonic()
        self._counts = Counts()
        self._runner = BatchRunner(generator, size=size, guidance=guidance, listener=_Shown(self))

    def run(self, counts: Counts) -> None:
        """Adds to `counts`. Raises UsageError, FileError, BrokenPipeError; Ctrl-C leaves what is answered."""
        self._began, self._counts = time.monotonic(), counts
        with self._written.answering(counts) as self._status:
            while self._left:
                self._answer_part()

    def _answer_part(self) -> None:
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
                    else self._describe(line, found, made.asked.options, [*made.notices, *why])
                )
            else:
                row, notices = error_row(made), ()
            self._status.clear()
            state = state_of(row, guided=self._guidance is not None or line.guidance is not None)
            for text in [*(notice.text for notice in notices), *_reports(row, state)]:
                self._terminal.say(f"{line.place}: {text}")
            self._written.write(line, row)
            self._counts.add(row, state)
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
            options = generator.options.replaced(**(line.options or {}))
            if options.num_beams > 1:
                raise UsageError("beam search cannot be combined with batches", hint="leave out `num_beams`")
            generator.check_options(options, line.guidance or self._guidance)
            fitted = fit_messages(generator, line.messages, policy=self._policy, max_tokens=options.max_tokens)
            generator.check_prompt(fitted.prompt)
        except LmsupplyError as error:
            return error
        return _Made(BatchItem(fitted.prompt, options, line.guidance), fitted.notices)

    def _answers(self, asked: Sequence[BatchItem], choice: BatchPlan) -> Iterator[Completion | LmsupplyError]:
        guided = self._guidance is not None or any(one.guidance for one in asked)
        if choice.together:
            try:
                yield from self._runner.together(asked)
                return
            except EngineError:  # one that cannot follow the guidance fails them all
                if not guided:
                    raise
        for one in asked:
            try:
                yield self._runner.alone(one)
            except EngineError as error:
                if self._guidance is None and one.guidance is None:
                    raise
                yield error

    def show(self, written: int) -> None:
        tokens = self._counts.tokens + written
        rate = f", {format_rate(tokens, time.monotonic() - self._began)}" if tokens else ""
        total = self._written.total
        self._status.show(f"batch: {total - len(self._left)} of {total} answered{rate}")

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
    return ["the answer was cut off before it was complete"] if state == "cut" else []
