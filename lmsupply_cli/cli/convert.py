"""`lmsupply convert`: safetensors and GGUF to a model that lmsupply runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import (
    AcceptLicense,
    BlockSize,
    Debug,
    ImportPrecision,
    Json,
    KeepSource,
    Quiet,
    check_one_of,
    takes_settings,
)

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.loading.importing import ImportWish

EXAMPLES = (
    ("lmsupply convert ./my-finetune", "a folder of safetensors, quantized to 4 bits"),
    ("lmsupply convert ./model-BF16.gguf --precision int8", "a GGUF file, in 8 bits"),
    ("lmsupply convert ./my-finetune --out ./onnx", "into a folder of your own"),
    ("lmsupply convert owner/repo --dry-run", "what a conversion from the Hub would take"),
)


@takes_settings("cache_dir", "offline")
def convert(
    *,
    source: Annotated[str, typer.Argument(metavar="SOURCE", show_default=False)],
    precision: ImportPrecision = None,
    block_size: BlockSize = None,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Write the model into this folder instead of installing it."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The name of the installed model.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be read and written.")] = False,
    keep_source: KeepSource = False,
    accept_license: AcceptLicense = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Convert safetensors or a GGUF file to a model that lmsupply runs.

    SOURCE is a folder of safetensors, a GGUF file, a model listed by lmsupply models --found, or owner/repo on the
    Hugging Face Hub. Quantized weights are carried over exactly, and weights in full precision are quantized to 4 bits
    (of a GGUF file to 8), unless --precision says otherwise. No torch is needed.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.importing import import_wish
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.store.locate import parse_repo
    from lmsupply_cli.store.source_paths import as_place, no_source, source_at

    check_one_of({"--out": out, "--name": name})
    context = Context.of(flags, quiet=quiet)
    wish = import_wish(context.settings, precision, block_size)
    here = source_at(as_place(source)) is not None
    if not here and (missing := no_source(source)):
        raise missing
    if not here and parse_repo(source):
        if name:
            raise UsageError("--name is for models on this machine", hint=f"the model will be called {source}")
        from lmsupply_cli.cli.converting import convert_repo
        from lmsupply_cli.cli.fetching import PullRequest

        request = PullRequest(dry_run, keep_source, accept_license, json)
        convert_repo(context, source, wish, Path(out) if out else None, request)
        return
    if keep_source:
        raise UsageError("--keep-source is for models on the Hub", hint="files on this machine are never removed")
    _from_disk(context, source, wish, out, name, dry_run=dry_run, as_json=json)


def _from_disk(
    context: Context, source: str, wish: ImportWish, out: str | None, name: str | None, *, dry_run: bool, as_json: bool
) -> None:
    from lmsupply_cli.cli.importing import import_planned, plan_of, say_dry_run, write_folder

    if out is not None:
        write_folder(context, source, wish, Path(out), dry_run=dry_run, as_json=as_json)
        return
    planned = plan_of(context, source, wish, name=name)
    if dry_run:
        say_dry_run(context.terminal, planned, context.root, as_json=as_json)
        return
    manifest = import_planned(context, planned, as_json=as_json)
    if as_json:
        context.terminal.json_event("finished", ref=manifest.ref, path=str(context.root / manifest.folder))
    elif planned.is_done:
        context.terminal.say(f"{manifest.ref} is converted already: {context.root / manifest.folder}")
    else:
        context.terminal.say(f"Chat with it: lmsupply chat {manifest.ref}")
