"""`lmsupply config`: see and change the settings."""

from __future__ import annotations

from typing import Annotated

import typer

from lmsupply_cli.cli.options import Debug, Json


def config(
    *,
    action: Annotated[str, typer.Argument(metavar="[list|get|set|unset|path|edit]", show_default=False)] = "list",
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", show_default=False)] = None,
    value: Annotated[list[str] | None, typer.Argument(metavar="[VALUE]...", show_default=False)] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """See and change the settings.

    list shows every setting with its value and where that comes from (env, file or default);
    get KEY prints one; set KEY VALUE and unset KEY change the settings file; path prints where
    it is; edit opens it in $VISUAL or $EDITOR. A list takes several VALUEs.
    """
    from lmsupply_cli.cli.configuring import configure

    configure(action, key, value or [], as_json=json)
