"""`lmsupply chat`: talk with a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import (
    ANSWERING,
    AcceptLicense,
    Debug,
    DryRun,
    Plain,
    Preset,
    Pull,
    System,
    TrustModelFiles,
    takes_settings,
)
from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS


@takes_settings(
    *(key for key in GENERATION_KEYS if key != "num_beams" and not SETTINGS[key].json_only),
    *ANSWERING,
    "history",
)
def chat(
    *,
    named: Annotated[str | None, typer.Argument(metavar="[MODEL]", show_default=False)] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model that answers.")] = None,
    system: System = None,
    go_on: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the last saved chat.")] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", "-r", metavar="NAME", help="Go on with the saved chat of that name.")
    ] = None,
    no_save: Annotated[bool, typer.Option("--no-save", help="Do not keep this chat.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Show tokens and speed after each answer.")] = False,
    plain: Plain = False,
    trust_model_files: TrustModelFiles = False,
    pull: Pull = False,
    accept_license: AcceptLicense = False,
    preset: Preset = None,
    dry_run: DryRun = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Talk with a model.

    /help lists the commands of the chat. Ctrl-C stops an answer, Ctrl-D leaves. Chats are kept as
    they go: --continue goes on with the last one.
    """
    from lmsupply_cli.cli.conversation import Conversation, converse

    converse(
        Conversation(
            model=named or model,
            both=(named, model) if named and model else None,
            system=system,
            go_on=go_on,
            resume=resume,
            no_save=no_save,
            stats=stats,
            plain=plain,
            trust=trust_model_files,
            pull=pull,
            accepted=accept_license,
            preset=preset,
            debug=debug,
            dry_run=dry_run,
            flags=flags,
        )
    )
