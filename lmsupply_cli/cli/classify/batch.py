"""What `lmsupply classify --batch` does: a file of prompts, a file of results."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmsupply_cli._version import JSON_SCHEMA
from lmsupply_cli.cli.classify.single import (
    ClassifyRequest,
    classify_object,
    classify_settings,
    fit_choices,
    loaded,
    overflow_policy,
    read_choices,
)
from lmsupply_cli.cli.exit import ERROR, OK
from lmsupply_cli.cli.run.batch_input import Line, read_lines
from lmsupply_cli.cli.run.batch_output import (
    GOES_ON,
    State,
    appending,
    check_places,
    error_row,
    finished,
    owned,
    state_of,
    write,
)
from lmsupply_cli.errors import EngineError, LmsupplyError, UsageError
from lmsupply_cli.files import our_io_error
from lmsupply_cli.render.terminal import Terminal


def classify_many(request: ClassifyRequest) -> int:
    """The exit code: 1 where a line could not be classified. Raises the errors of what it uses."""
    source, out = _checked(request)
    choices = read_choices(request)
    with owned(out):
        return _classify_into(out, source, request, choices)


def _classify_into(out: Path, source: Path, request: ClassifyRequest, choices: tuple[str, ...]) -> int:
    terminal = Terminal.of_process(quiet=request.quiet)
    lines = [_line(line, choices) for line in read_lines(source, system=request.system, takes_options=False)]
    done = finished(out, lines, guided=False)
    if len(done) == len(lines):
        return _told(out, terminal, states=Counter(), done=done)
    settings = classify_settings(request, terminal)
    named = request.model or (request.words[0] if request.words else None)
    states: Counter[State] = Counter()
    with loaded(request, named, settings, terminal) as (generator, notices):
        status = terminal.status()

        def result(line: Line) -> Mapping[str, Any]:
            try:
                if line.error:
                    raise line.error
                fitted = fit_choices(generator, line.messages, choices, overflow_policy(settings))
                for notice in fitted.notices:
                    terminal.say(f"line {line.number}: {notice.text}")
                found = generator.classify_prompt(fitted.prompt, choices)
            except EngineError:
                raise
            except LmsupplyError as error:
                return error_row(error)
            return classify_object(found, generator.info, [*notices, *fitted.notices])

        with our_io_error(out, hint=GOES_ON), appending(out) as file:
            try:
                for line in (line for line in lines if line.index not in done):
                    status.show(f"batch: {len(done) + states.total()} of {len(lines)} classified")
                    row = result(line)
                    status.clear()
                    if "error" in row:
                        terminal.say(f"line {line.number}: {row['error']['message']}")
                    write(
                        file, {"schema": JSON_SCHEMA, "index": line.index, "id": line.id, "input": line.digest, **row}
                    )
                    states[state_of(row, guided=False)] += 1
            except KeyboardInterrupt:
                status.clear()
                held = len(done) + states.total()
                terminal.say(f"{held} of {len(lines)} lines are in {out}; run the same command to continue")
                raise
            finally:
                status.clear()
    return _told(out, terminal, states=states, done=done)


def _line(line: Line, choices: Sequence[str]) -> Line:
    """With the choices in its digest: a result is only good for them."""
    whole = json.dumps([line.digest, *choices])
    return replace(line, digest=hashlib.sha256(whole.encode()).hexdigest()[:12])


def _told(out: Path, terminal: Terminal, *, states: Counter[State], done: Mapping[int, State]) -> int:
    """The exit code."""
    failed = states["bad"] + list(done.values()).count("bad")
    before = f", {len(done)} done before" if done else ""
    bad = f", {failed} could not be classified" if failed else ""
    terminal.say(f"{states['whole']} classified{before}{bad}: {out}")
    return ERROR if failed else OK


def _checked(request: ClassifyRequest) -> tuple[Path, Path]:
    if request.batch is None or request.out is None:
        raise UsageError(
            "--batch and --out must be used together",
            hint="lmsupply classify --choices yes,no --batch prompts.jsonl --out results.jsonl",
        )
    excluded = {
        "a prompt": len(request.words) > (0 if request.model else 1),
        "--file": bool(request.files),
        "--raw": request.raw,
        "--json": request.as_json,
        "--all": request.every,
    }
    for name, given in excluded.items():
        if given:
            raise UsageError(f"--batch reads its prompts from the file and writes JSON: leave out {name}")
    check_places(request.batch, request.out)
    return request.batch, request.out
