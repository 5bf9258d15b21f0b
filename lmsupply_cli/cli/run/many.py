"""What `lmsupply run --batch` does: read, choose, load, answer all, and say how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.cli.choose import choose_model, store_root
from lmsupply_cli.cli.exit import ERROR, OK
from lmsupply_cli.cli.load import load_model, plan_model, say_plan
from lmsupply_cli.cli.run.batch import BatchJob, Counts
from lmsupply_cli.cli.run.batch_input import read_lines
from lmsupply_cli.cli.run.batch_output import check_places, finished, owned
from lmsupply_cli.cli.run.output import run_object
from lmsupply_cli.cli.run.request import Request
from lmsupply_cli.cli.run.single import read_options
from lmsupply_cli.config.layers import Settings, Value, read_settings
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.engine.options import GenerationOptions, preset_values
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.generation.completion import Completion
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.units import format_rate


def answer_many(request: Request, guidance: Guidance | None) -> int:
    """The exit code: 1 where a line could not be asked. Raises the errors of what it uses."""
    source, out = _checked(request)
    with owned(out):
        return _answer_into(out, source, request, guidance)


def _answer_into(out: Path, source: Path, request: Request, guidance: Guidance | None) -> int:
    terminal = Terminal.of_process(quiet=request.quiet)
    lines = read_lines(source, system=request.system)
    done = finished(out, lines, guided=guidance is not None)
    if len(done) == len(lines):
        return _told(Counts.of(done), out, terminal)
    preset = preset_values(request.preset) if request.preset else None
    settings = read_settings(request.flags, preset=preset, environ=terminal.environ, path=paths.settings_file())
    if guidance:
        check_guidance(guidance)
    named = request.model or (request.words[0] if request.words else None)
    choice = choose_model(named, settings, store_root(settings), terminal, pull=request.pull, accepted=request.accepted)
    folder = open_model(choice.model, trust=request.trust)
    values, options = read_options(settings, folder, guidance)
    if options.num_beams > 1:
        raise UsageError("beam search cannot be combined with batches", hint="leave out `num_beams`")
    notices = list(choice.notices)
    if settings.get("speculative") != "off":
        notices.append(Notice("speculative", "speculative decoding is not used in a batch"))
    for notice in notices:
        terminal.notice(notice)
    plan = plan_model(choice.model, folder, settings, options=options, guidance=guidance)
    if request.dry_run:
        say_plan(plan, terminal)
        return OK
    with load_model(plan, terminal, notices=notices) as generator:
        counts = BatchJob(
            lines,
            out,
            generator,
            terminal,
            size=request.batch_size,
            guidance=guidance,
            policy=settings.get("on_overflow") or "error",
            describe=_describe(generator, values, notices, settings),
            done=done,
        ).run()
    return _told(counts, out, terminal)


def _told(counts: Counts, out: Path, terminal: Terminal) -> int:
    """The exit code."""
    cut = f", {counts.cut} cut short" if counts.cut else ""
    before = f", {counts.before} done before" if counts.before else ""
    bad = f", {counts.bad} could not be answered" if counts.bad else ""
    written = f"; {counts.tokens:,} tokens at {format_rate(counts.tokens, counts.seconds)}" if counts.tokens else ""
    terminal.say(f"{counts.answered} answered{cut}{before}{bad}{written}: {out}")
    return ERROR if counts.bad or counts.cut else OK


def _checked(request: Request) -> tuple[Path, Path]:
    if request.batch is None or request.out is None:
        raise UsageError(
            "--batch and --out must be used together", hint="lmsupply run --batch prompts.jsonl --out answers.jsonl"
        )
    excluded = {
        "a prompt": len(request.words) > (0 if request.model else 1),
        "--file": bool(request.files),
        "--raw": request.raw,
        "--show-prompt": request.show_prompt,
        "--json and --stream-json": request.form != "text" or request.both_json,
        "--stats": request.stats,
        "--no-stream": request.hold,
    }
    for name, given in excluded.items():
        if given:
            raise UsageError(f"--batch reads its prompts from the file and writes JSON: leave out {name}")
    check_places(request.batch, request.out)
    return request.batch, request.out


def _describe(generator: TextGenerator, values: Mapping[str, Value], notices: list[Notice], settings: Settings) -> Any:
    def describe(answer: Completion, options: GenerationOptions, said: Sequence[Notice]) -> dict[str, Any]:
        own = {
            key: Value(value, values[key].source) if value == values[key].value else Value(value, "flag")
            for key, value in options.as_dict(guided=answer.complete is not None).items()
        }
        return run_object(answer, generator.info, own, [*notices, *said], thoughts=settings.get("think") == "on")

    return describe
