"""`lmsupply run`: one prompt, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.help import BATCH, INPUT, OUTPUT, STRUCTURED
from lmsupply_cli.cli.options import (
    ANSWERING,
    AcceptLicense,
    Batch,
    Debug,
    DryRun,
    Files,
    Json,
    Model,
    NoServer,
    NoStdin,
    Out,
    Plain,
    Preset,
    PromptText,
    Pull,
    Quiet,
    Raw,
    RetryFailed,
    System,
    TemplateName,
    TrustModelFiles,
    Words,
    check_batch_only,
    check_one_of,
    check_raw,
    check_text_only,
    takes_settings,
)
from lmsupply_cli.config.table import GENERATION_KEYS

if TYPE_CHECKING:
    from lmsupply_cli.engine.guidance import Guidance

EXAMPLES = (
    ('lmsupply run phi-4-mini "Why is the sky blue?"', "ask a model"),
    ("git diff | lmsupply run -s 'Write a commit message.'", "piped input; the default model"),
    ('lmsupply run -f report.txt "Summarize this." --json', "a file, and one JSON object"),
    ('lmsupply run --json-schema \'{"type": "object"}\' "A person as JSON."', "an answer that parses"),
    ("lmsupply run --batch prompts.jsonl --out answers.jsonl", "many prompts"),
)


@takes_settings(
    *GENERATION_KEYS,
    *ANSWERING,
)
def run(
    *,
    words: Words = None,
    model: Model = None,
    prompt: PromptText = None,
    system: System = None,
    template: TemplateName = None,
    file: Files = None,
    json_schema: Annotated[
        str | None,
        typer.Option(
            "--json-schema",
            metavar="FILE|JSON",
            help="Constrain the answer to a JSON schema.",
            rich_help_panel=STRUCTURED,
        ),
    ] = None,
    regex: Annotated[
        str | None,
        typer.Option(
            "--regex",
            metavar="PATTERN",
            help="Constrain the answer to a regular expression.",
            rich_help_panel=STRUCTURED,
        ),
    ] = None,
    grammar: Annotated[
        str | None,
        typer.Option(
            "--grammar", metavar="FILE", help="Constrain the answer to a Lark grammar.", rich_help_panel=STRUCTURED
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="json",
            help="Constrain the answer to a JSON object or array.",
            rich_help_panel=STRUCTURED,
        ),
    ] = None,
    batch: Batch = None,
    out: Out = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            help="Number of prompts to process in parallel, at most 32 (default: up to 8, as memory allows).",
            rich_help_panel=BATCH,
        ),
    ] = None,
    retry_failed: RetryFailed = False,
    last: Annotated[
        bool, typer.Option("--continue", "-c", help="Continue the last run or chat.", rich_help_panel=INPUT)
    ] = False,
    no_save: Annotated[
        bool, typer.Option("--no-save", help="Don't save this answer for --continue.", rich_help_panel=OUTPUT)
    ] = False,
    raw: Raw = False,
    json: Json = False,
    stream_json: Annotated[
        bool, typer.Option("--stream-json", help="Print one JSON event per line.", rich_help_panel=OUTPUT)
    ] = False,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Print the answer when it is complete.", rich_help_panel=OUTPUT)
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print times, rates and memory on stderr.", rich_help_panel=OUTPUT)
    ] = False,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Print the exact prompt and stop.", rich_help_panel=OUTPUT)
    ] = False,
    dry_run: DryRun = False,
    no_stdin: NoStdin = False,
    no_server: NoServer = False,
    trust_model_files: TrustModelFiles = False,
    pull: Pull = False,
    accept_license: AcceptLicense = False,
    preset: Preset = None,
    plain: Plain = False,
    quiet: Quiet = False,
    debug: Debug = False,  # read by main
    flags: dict[str, Any],
) -> None:
    """Answer one prompt and print it.

    If the first word names a model (an alias, a role, an owner/repo or a path), it selects the model and the rest is
    the prompt. -m overrides this. Files and piped input are appended to the prompt. Only the answer goes to stdout. In a
    terminal, a model without a prompt opens a chat.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.inputs import PromptRequest
    from lmsupply_cli.cli.prepare import ModelRequest
    from lmsupply_cli.cli.run.output import Look
    from lmsupply_cli.config.templates import read_template

    check_one_of({"--json": json, "--stream-json": stream_json})
    check_one_of({"--no-stream": no_stream, "--stream-json": stream_json})
    check_one_of({"--continue": last, "--raw": raw})
    check_one_of({"--template": template, "--raw": raw})
    check_one_of({"--dry-run": dry_run, "--show-prompt": show_prompt})
    check_one_of({"--plain": plain, "--theme": flags.get("theme")})
    check_one_of({"--pull": pull, "--offline": flags.get("offline")})
    if raw:
        check_raw(flags, system)
    saved = read_template(template) if template else None
    ctx = Context.of(flags, preset=preset, template=saved, quiet=quiet, debug=debug)
    guidance = _guidance(json_schema, regex, grammar, form)
    wanted = ModelRequest(
        model, pull=pull, accepted=accept_license, trust=trust_model_files, dry_run=dry_run, no_server=no_server
    )
    asked = PromptRequest(words or (), prompt, file or (), system, raw, no_stdin, last, no_save, saved)
    look = Look("json" if json else "stream-json" if stream_json else "text", no_stream, plain, stats)
    if retry_failed or {batch, out, batch_size} != {None}:
        from lmsupply_cli.cli.batch_files import BatchRequest
        from lmsupply_cli.cli.run.batch import run_batch

        check_batch_only(
            {
                "--continue": last,
                "--template": template,
                "--show-prompt": show_prompt,
                "--no-stream": no_stream,
                "--stats": stats,
                "--plain": plain,
                "--theme": flags.get("theme"),
                "--no-save": no_save,
            }
        )
        check_batch_only(
            {"--file": file, "--prompt": prompt, "--raw": raw, "--json": json, "--stream-json": stream_json}
        )
        request = BatchRequest.of(batch, out, batch_size, retry=retry_failed, no_stdin=no_stdin)
        code = run_batch(ctx, wanted, asked, guidance, request, dry_run=dry_run)
    elif dry_run:
        from lmsupply_cli.cli.run.single import print_load_plan

        code = print_load_plan(ctx, wanted, asked, guidance, as_json=look.form != "text")
    elif show_prompt:
        from lmsupply_cli.cli.run.single import print_prompt

        check_one_of({"--show-prompt": show_prompt, "--json": json, "--stream-json": stream_json, "--stats": stats})
        code = print_prompt(ctx, wanted, asked, guidance)
    else:
        from lmsupply_cli.cli.run.single import run_prompt

        text_only = {"--plain": plain, "--theme": flags.get("theme"), "--no-stream": no_stream}
        check_text_only(text_only, json=json, stream_json=stream_json)
        code = run_prompt(ctx, wanted, asked, guidance, look)
    if code:
        raise typer.Exit(code)


def _guidance(json_schema: str | None, regex: str | None, grammar: str | None, form: str | None) -> Guidance | None:
    """What the answer must follow. Raises UsageError."""
    from lmsupply_cli.engine.guidance import Guidance, grammar_of, schema_of
    from lmsupply_cli.errors import UsageError

    check_one_of({"--json-schema": json_schema, "--regex": regex, "--grammar": grammar, "--format": form})
    if json_schema is not None:
        return schema_of(json_schema)
    if regex is not None:
        return Guidance.regex(regex)
    if grammar is not None:
        return grammar_of(grammar)
    if form is None:
        return None
    if form != "json":
        raise UsageError(f"unknown format {form!r}", hint="--format json; --json prints the answer as an object")
    return Guidance.json()
