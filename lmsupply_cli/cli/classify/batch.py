"""What `lmsupply classify --batch` does: a file of prompts, a file of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmsupply_cli.cli.batch_files import (
    Answers,
    BatchRequest,
    Counts,
    error_row,
    owned,
    run_of,
    say_counts,
    state_of,
)
from lmsupply_cli.cli.batch_lines import Line, read_lines
from lmsupply_cli.cli.classify.single import classify_object, fit_choices, prepared_for_choices
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.inputs import PromptRequest
from lmsupply_cli.cli.prepare import ModelRequest, load_model, overflow_policy
from lmsupply_cli.cli.run.batch import batch_model, say_other_models
from lmsupply_cli.errors import EngineError, LmsupplyError
from lmsupply_cli.generation.generator import TextGenerator


def classify_batch(
    ctx: Context, wanted: ModelRequest, asked: PromptRequest, choices: Sequence[str], request: BatchRequest
) -> int:
    """The exit code: 1 where a line could not be classified. Raises the errors of what it uses."""
    wanted = batch_model(ctx, wanted, asked)
    with owned(request.out):
        lines = read_lines(request.source, ctx.terminal, system=asked.system, takes_options=False)
        answers = Answers(request.out, lines, ctx.terminal, guided=False)
        prepared = prepared_for_choices(ctx, wanted)
        run = run_of(prepared.model, ctx.settings, system=asked.system, choices=list(choices))
        answers.check_run(run, retry=request.retry)
        left = answers.left(retry=request.retry)
        counts = Counts.of(answers.done, left)
        if left:
            say_other_models(ctx, lines, prepared.model)
            with load_model(ctx, prepared.plan(ctx.settings)) as generator:
                _Job(ctx, generator, choices, answers).run(left, counts)
        else:
            answers.sort()
    return say_counts(ctx.terminal, counts, answers, verb="classified")


@dataclass
class _Job:
    ctx: Context
    generator: TextGenerator
    choices: Sequence[str]
    answers: Answers

    def run(self, lines: Sequence[Line], counts: Counts) -> None:
        """Raises FileError, BrokenPipeError, EngineError; Ctrl-C leaves what is classified."""
        total = self.answers.total
        with self.answers.answering(counts) as status:
            for done, line in enumerate(lines, total - len(lines)):
                status.show(f"batch: {done} of {total} classified")
                row = self._row(line)
                status.clear()
                if "error" in row:
                    self.ctx.terminal.say(f"{line.place}: {row['error']['message']}")
                self.answers.write(line, row)
                counts.add(row, state_of(row, guided=False))

    def _row(self, line: Line) -> Mapping[str, Any]:
        try:
            if line.error:
                raise line.error
            fitted = fit_choices(self.generator, line.messages, self.choices, overflow_policy(self.ctx.settings))
            for notice in fitted.notices:
                self.ctx.terminal.say(f"{line.place}: {notice.text}")
            found = self.generator.classify_prompt(fitted.prompt, self.choices)
        except EngineError:
            raise
        except LmsupplyError as error:
            return error_row(error)
        return classify_object(found, self.generator.info, [*self.ctx.notices, *fitted.notices])
