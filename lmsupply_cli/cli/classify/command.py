"""`lmsupply classify`: how likely given answers to a prompt are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import (
    AcceptLicense,
    Batch,
    Debug,
    Files,
    Json,
    Model,
    NoStdin,
    Out,
    PromptText,
    Pull,
    Quiet,
    Raw,
    RetryFailed,
    System,
    TrustModelFiles,
    Words,
    check_batch_only,
    check_one_of,
    check_raw,
    takes_settings,
)

EXAMPLES = (
    ('lmsupply classify phi-4-mini --choices yes,no "Is this spam? You won!"', "print the most likely choice"),
    ("lmsupply classify --choices bug,feature,question --all -f issue.md", "every choice with its probability"),
    ("lmsupply classify --choices yes,no --batch mails.jsonl --out labels.jsonl", "a file of prompts"),
)


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
    model: Model = None,
    prompt: PromptText = None,
    choices: Annotated[
        list[str] | None,
        typer.Option("--choices", metavar="A,B,...", help="The choices, separated by commas; repeatable."),
    ] = None,
    choices_file: Annotated[
        str | None,
        typer.Option(
            "--choices-file", metavar="FILE", help="Read one choice per line of this file, without stripping spaces."
        ),
    ] = None,
    system: System = None,
    file: Files = None,
    batch: Batch = None,
    out: Out = None,
    retry_failed: RetryFailed = False,
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
    its answer. Only the best choice goes to stdout. If the first word names a model (an alias, a
    role, an owner/repo or a path), it selects the model and the rest is the prompt. -m overrides
    this. Files and piped input are appended to the prompt. Use --think off with a reasoning model.
    """
    from shlex import quote

    from lmsupply_cli.cli.classify.single import classify_prompt, read_choices
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.inputs import PromptRequest
    from lmsupply_cli.cli.prepare import ModelRequest

    check_one_of({"--pull": pull, "--offline": flags.get("offline")})
    if raw:
        check_raw(flags, system)
    ctx = Context.of(flags | {"speculative": "off"}, quiet=quiet)  # nothing is generated, so there are no draft tokens
    read = read_choices(choices or (), choices_file)
    wanted = ModelRequest(model, pull=pull, accepted=accept_license, trust=trust_model_files)
    options = [*(f"--choices {quote(text)}" for text in choices or ())] or [
        f"--choices-file {quote(str(choices_file))}"
    ]
    command = f"classify {' '.join(options)}"
    asked = PromptRequest(words or (), prompt, file or (), system, raw, no_stdin, command=command)
    if not retry_failed and {batch, out} == {None}:
        return classify_prompt(ctx, wanted, asked, read, as_json=json, every=every)
    from lmsupply_cli.cli.batch_files import BatchRequest
    from lmsupply_cli.cli.classify.batch import classify_batch

    check_batch_only({"--file": file, "--prompt": prompt, "--raw": raw, "--json": json, "--all": every})
    request = BatchRequest.of(batch, out, retry=retry_failed, no_stdin=no_stdin, command=command)
    if code := classify_batch(ctx, wanted, asked, read, request):
        raise typer.Exit(code)
    return None
