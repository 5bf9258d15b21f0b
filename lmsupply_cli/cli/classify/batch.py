"""What `lmsupply classify --batch` does: a file of prompts, a file of results."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.cli.batch_files import (
    GOES_ON,
    Line,
    State,
    appending,
    error_row,
    finished,
    owned,
    read_lines,
    state_of,
    write,
)
from lmsupply_cli.cli.classify.single import classify_object, fit_choices, loaded
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.exit import ERROR, OK
from lmsupply_cli.cli.inputs import PromptRequest
from lmsupply_cli.cli.prepare import ModelRequest
from lmsupply_cli.cli.run.batch import BatchRequest, batch_model
from lmsupply_cli.cli.run.single import overflow_policy
from lmsupply_cli.errors import EngineError, LmsupplyError
from lmsupply_cli.files import our_io_error
from lmsupply_cli.generation.generator import TextGenerator


def classify_batch(
    ctx: Context, wanted: ModelRequest, asked: PromptRequest, choices: Sequence[str], request: BatchRequest
) -> int:
    """The exit code: 1 where a line could not be classified. Raises the errors of what it uses."""
    wanted = batch_model(ctx, wanted, asked)
    with owned(request.out):
        read = read_lines(request.source, system=asked.system, takes_options=False)
        lines = [_line(line, choices) for line in read]
        done = finished(request.out, lines, guided=False)
        states: Counter[State] = Counter()
        if len(done) < len(lines):
            with loaded(ctx, wanted) as generator:
                _Job(ctx, generator, choices, lines, done, states).run(request.out)
    return _told(ctx, request.out, states=states, done=done)


@dataclass
class _Job:
    ctx: Context
    generator: TextGenerator
    choices: Sequence[str]
    lines: Sequence[Line]
    done: Mapping[int, State]
    states: Counter[State]

    def run(self, out: Path) -> None:
        """Raises FileError, EngineError; Ctrl-C leaves what is classified."""
        terminal, status = self.ctx.terminal, self.ctx.terminal.status()
        with our_io_error(out, hint=GOES_ON), appending(out) as file:
            try:
                for line in (line for line in self.lines if line.index not in self.done):
                    held = len(self.done) + self.states.total()
                    status.show(f"batch: {held} of {len(self.lines)} classified")
                    row = self._row(line)
                    status.clear()
                    if "error" in row:
                        terminal.say(f"line {line.number}: {row['error']['message']}")
                    named = {"schema": JSON_SCHEMA, "index": line.index, "id": line.id, "input": line.digest}
                    write(file, {**named, **row})
                    self.states[state_of(row, guided=False)] += 1
            except KeyboardInterrupt:
                status.clear()
                held = len(self.done) + self.states.total()
                terminal.say(f"{held} of {len(self.lines)} lines are in {out}; run the same command to continue")
                raise
            finally:
                status.clear()

    def _row(self, line: Line) -> Mapping[str, Any]:
        try:
            if line.error:
                raise line.error
            fitted = fit_choices(self.generator, line.messages, self.choices, overflow_policy(self.ctx.settings))
            for notice in fitted.notices:
                self.ctx.terminal.say(f"line {line.number}: {notice.text}")
            found = self.generator.classify_prompt(fitted.prompt, self.choices)
        except EngineError:
            raise
        except LmsupplyError as error:
            return error_row(error)
        return classify_object(found, self.generator.info, [*self.ctx.notices, *fitted.notices])


def _line(line: Line, choices: Sequence[str]) -> Line:
    """With the choices in its digest: a result is only good for them."""
    whole = json.dumps([line.digest, *choices])
    return replace(line, digest=hashlib.sha256(whole.encode()).hexdigest()[:12])


def _told(ctx: Context, out: Path, *, states: Counter[State], done: Mapping[int, State]) -> int:
    """The exit code."""
    failed = states["bad"] + list(done.values()).count("bad")
    before = f", {len(done)} done before" if done else ""
    bad = f", {failed} could not be classified" if failed else ""
    ctx.terminal.say(f"{states['whole']} classified{before}{bad}: {out}")
    return ERROR if failed else OK
