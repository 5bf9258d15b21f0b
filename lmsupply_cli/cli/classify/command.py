"""`lmsupply classify`: how likely given answers to a prompt are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import (
    AcceptLicense,
    Debug,
    Files,
    Json,
    NoStdin,
    Pull,
    Quiet,
    Raw,
    System,
    TrustModelFiles,
    Words,
    takes_settings,
)

_BATCH = "Batches"


@takes_settings(
    "context",
    "memory_limit",
    "threads",
    "provider",
    "precision",
    "cache_dir",
    "offline",
    "on_overflow",
    "chat_format",
    "think",
    "reasoning_effort",
)
def classify(
    *,
    words: Words = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model that classifies.")
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option("--choices", metavar="A,B,...", help="The choices, separated by commas; repeatable."),
    ] = None,
    choices_file: Annotated[
        Path | None,
        typer.Option(
            "--choices-file", metavar="FILE", help="Read one choice per line of this file, without stripping spaces."
        ),
    ] = None,
    system: System = None,
    file: Files = None,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", metavar="FILE", help="Classify every line of this file.", rich_help_panel=_BATCH),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where to write the results of --batch; lines already there are skipped.",
            rich_help_panel=_BATCH,
        ),
    ] = None,
    raw: Raw = False,
    every: Annotated[
        bool, typer.Option("--all", help="Print every choice with its probability and its share, best first.")
    ] = False,
    json: Json = False,
    no_stdin: NoStdin = False,
    trust_model_files: TrustModelFiles = False,
    pull: Pull = False,
    accept_license: AcceptLicense = False,
    quiet: Quiet = False,
    debug: Debug = False,  # read by main
    flags: dict[str, Any],
) -> None:
    """Choose the most likely of several given answers, with exact probabilities.

    Nothing is generated: the model reads the prompt once, then each choice as the beginning of
    its answer. stdout carries the best choice and nothing else. The first word is the model when
    it is an alias, an owner/repo or a path and a prompt follows; -m always wins. Piped text and
    files are added to the prompt. With a reasoning model use --think off.
    """
    from lmsupply_cli.cli.classify.single import ClassifyRequest, classify_one

    request = ClassifyRequest(
        words=words or [],
        model=model,
        choices=choices or [],
        choices_file=choices_file,
        system=system,
        files=file or [],
        raw=raw,
        every=every,
        as_json=json,
        no_stdin=no_stdin,
        trust=trust_model_files,
        pull=pull,
        accepted=accept_license,
        quiet=quiet,
        flags=flags,
        batch=batch,
        out=out,
    )
    if batch or out:
        from lmsupply_cli.cli.classify.batch import classify_many

        if code := classify_many(request):
            raise typer.Exit(code)
        return
    classify_one(request)
