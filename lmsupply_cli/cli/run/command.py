"""`lmsupply run`: one prompt, one answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import (
    ANSWERING,
    AcceptLicense,
    Debug,
    DryRun,
    Files,
    Json,
    NoStdin,
    Plain,
    Preset,
    Pull,
    Quiet,
    Raw,
    System,
    TrustModelFiles,
    Words,
    takes_settings,
)
from lmsupply_cli.config.table import GENERATION_KEYS

_GUIDANCE = "Guidance"
_BATCH = "Batches"


@takes_settings(
    *GENERATION_KEYS,
    *ANSWERING,
)
def run(
    *,
    words: Words = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model that answers.")] = None,
    system: System = None,
    file: Files = None,
    json_schema: Annotated[
        str | None,
        typer.Option(
            "--json-schema", metavar="FILE|JSON", help="The answer follows this JSON schema.", rich_help_panel=_GUIDANCE
        ),
    ] = None,
    regex: Annotated[
        str | None,
        typer.Option("--regex", metavar="PATTERN", help="The answer matches this pattern.", rich_help_panel=_GUIDANCE),
    ] = None,
    grammar: Annotated[
        str | None,
        typer.Option(
            "--grammar", metavar="FILE", help="The answer follows this Lark grammar.", rich_help_panel=_GUIDANCE
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="json", help="The answer is JSON, of any shape.", rich_help_panel=_GUIDANCE),
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", metavar="FILE", help="Answer every line of this file.", rich_help_panel=_BATCH),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where the answers of --batch go; what is there is not asked again.",
            rich_help_panel=_BATCH,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            max=32,
            help="Prompts at once; default: 8 or what fits the memory, 1 where that is faster.",
            rich_help_panel=_BATCH,
        ),
    ] = None,
    raw: Raw = False,
    json: Json = False,
    stream_json: Annotated[bool, typer.Option("--stream-json", help="Print one JSON event a line.")] = False,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is complete.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print times, rates and memory on stderr.")] = False,
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Print the exact prompt and stop.")] = False,
    dry_run: DryRun = False,
    no_stdin: NoStdin = False,
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

    The first word is the model when it is an alias, an owner/repo or a path and a prompt
    follows; -m always wins. Piped text and files are added to the prompt. stdout carries the
    answer and nothing else.
    """
    from lmsupply_cli.cli.run.request import Request
    from lmsupply_cli.cli.run.single import answer

    code = answer(
        Request(
            words=words or [],
            model=model,
            system=system,
            files=file or [],
            raw=raw,
            form="json" if json else "stream-json" if stream_json else "text",
            both_json=json and stream_json,
            hold=no_stream,
            stats=stats,
            show_prompt=show_prompt,
            no_stdin=no_stdin,
            trust=trust_model_files,
            pull=pull,
            accepted=accept_license,
            preset=preset,
            quiet=quiet,
            plain=plain,
            flags=flags,
            json_schema=json_schema,
            regex=regex,
            grammar=grammar,
            format=form,
            batch=batch,
            out=out,
            batch_size=batch_size,
            dry_run=dry_run,
        )
    )
    if code:
        raise typer.Exit(code)
