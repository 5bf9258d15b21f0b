"""`lmsupply templates`: saved prompts, system prompts and options."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, check_one_of
from lmsupply_cli.config.templates import (
    EXAMPLE,
    find_template,
    new_template_path,
    read_template,
    template_names,
    templates_dir,
)
from lmsupply_cli.editor import run_editor
from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.files import is_absent, write_whole
from lmsupply_cli.render.fields import print_fields
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.units import shortened

ACTIONS = ("list", "show", "edit", "path")
EXAMPLES = (
    ("lmsupply templates edit summarize", "write a template in your editor"),
    ("lmsupply run -t summarize -f report.txt", "use it"),
)


def templates(
    *,
    action: Annotated[str, typer.Argument(metavar="[list|show|edit|path]", show_default=False)] = "list",
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List, show and edit saved prompts.

    A template can contain a prompt with {input}, a system prompt, a model and options. list shows them; show NAME
    prints one; edit NAME opens one in $VISUAL or $EDITOR, and creates it; path prints the directory. Use one with
    lmsupply run --template NAME "text", or chat --template NAME.
    """
    from lmsupply_cli.cli.context import Context

    terminal = Context.of(skip_bad=True).terminal
    if action not in ACTIONS:
        raise UsageError(f"unknown action {action!r}", hint="use list, show NAME, edit NAME, path")
    if (name is not None) != (action in ("show", "edit")):
        given = f"{action} NAME" if action in ("show", "edit") else action
        raise UsageError(f"usage: lmsupply templates {given}", hint="lmsupply templates --help")
    check_one_of({"--json": json, action: action == "edit"})
    if action == "path" and json:
        terminal.json({"path": str(templates_dir())})
    elif action == "path":
        terminal.data(str(templates_dir()))
    elif action == "list":
        _list(terminal, as_json=json)
    elif action == "edit":
        _edit(str(name), terminal)
    else:
        path = find_template(str(name))
        if json:
            terminal.json(_object(str(name)))
        else:
            terminal.document(path.read_text(encoding="utf-8", errors="replace"))


def _list(terminal: Terminal, *, as_json: bool) -> None:
    """Templates that cannot be used are listed with the reason."""
    rows = [_object(name) for name in template_names()]
    if as_json:
        terminal.json({"templates": rows, "path": str(templates_dir())})
        return
    if not rows:
        terminal.say(f"no templates yet; lmsupply templates edit NAME creates one in {templates_dir()}")
    texts = [row.get("error") or row["prompt"] or row["system"] or "" for row in rows]
    print_fields(terminal, [(row["name"], shortened(text, 80)) for row, text in zip(rows, texts, strict=True)])


def _object(name: str) -> dict[str, Any]:
    try:
        found = read_template(name)
    except LmsupplyError as error:
        return {"name": name, "error": error.message}
    return {
        "name": name,
        "prompt": found.prompt or None,
        "system": found.system,
        "model": found.model,
        "options": dict(found.options),
        "path": str(found.path),
    }


def _edit(name: str, terminal: Terminal) -> None:
    """A new one begins with an example, and is kept if that was changed; one that was saved with a mistake is
    reported."""
    path = find_template(name) if name in template_names() else new_template_path(name)
    new = is_absent(path)
    if new:
        write_whole(path, EXAMPLE)
    changed = False
    try:
        changed = run_editor(path, os.environ)
    finally:
        if new and not changed:
            path.unlink(missing_ok=True)
    if changed:
        read_template(name)
        terminal.say(f"saved {path}")
    else:
        terminal.say("nothing changed, so no template was saved" if new else f"nothing changed in {path}")
