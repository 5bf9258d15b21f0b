"""`lmsupply use`: the model that answers if none is named."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, takes_settings

EXAMPLES = (
    ("lmsupply use phi-4-mini", "run and chat use phi-4-mini if no model is named"),
    ("lmsupply use", "show the default model and why it is the default"),
)
_WHERE = {"file": "the setting default_model", "env": "the variable LMSUPPLY_DEFAULT_MODEL"}


@takes_settings("cache_dir")
def use(
    *,
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", show_default=False)] = None,
    unset: Annotated[bool, typer.Option("--unset", help="Go back to choosing the model automatically.")] = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Set the default model.

    Without MODEL, show which model answers if none is named, and why. It is the first that exists of: the setting
    default_model, the only installed model, the model you used last, the built-in guide.
    """
    from lmsupply_cli.catalogue.entry import GUIDE_REF
    from lmsupply_cli.catalogue.roles import role_name
    from lmsupply_cli.cli.consent import RULES, allowed_by, check_allowed, named_for, note_missing
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.config.edit import set_value, unset_value
    from lmsupply_cli.config.layers import read_settings
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.files import absolute
    from lmsupply_cli.paths import settings_file
    from lmsupply_cli.store.locate import default_installed, is_path, locate

    if model and unset:
        raise UsageError("MODEL and --unset can't be combined", hint="use one of them")
    ctx = Context.of(flags, skip_bad=True)
    if model and (unread := next((error for error in ctx.settings.errors if error.key in RULES), None)):
        raise unread  # it may forbid the model
    if unset:
        unset_value(settings_file(), "default_model")
    elif model:
        if role_name(model):
            named_for(model, ctx.settings)
        else:
            located = locate(model, ctx.root)
            check_allowed(located.ref, located.license, ctx.settings)
            model = str(absolute(located.path)) if is_path(model) else model if ":" in model else located.ref
        set_value(settings_file(), "default_model", model)
    settings = read_settings(flags, path=settings_file(), skip_bad=True)
    if name := settings.get("default_model"):
        ctx.terminal.data(f"{name} ({_WHERE[settings.value('default_model').source]})")
        note_missing(ctx, name)
    elif found := default_installed(ctx.root, allowed_by(settings)):
        ctx.terminal.data(f"{found.model.ref} ({found.reason})")
        note_missing(ctx, found.model.ref)
    else:
        ctx.terminal.data(f"{GUIDE_REF} (no model is installed)")
