"""`lmsupply config`: see and change the settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from lmsupply_cli import paths
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.options import Debug, Json
from lmsupply_cli.cli.places import say_notes, shown_place
from lmsupply_cli.config.edit import literal, set_value, unset_value
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.config.values import as_text, check_value, parse_text
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import our_io_error
from lmsupply_cli.render.table import Column, print_table
from lmsupply_cli.render.terminal import Terminal

_USAGE = {"get": "get KEY", "set": "set KEY VALUE", "unset": "unset KEY"}
_HELP_COLUMNS = 60


EXAMPLES = (
    ("lmsupply config", "the settings that are set"),
    ("lmsupply config set temperature 0.2", "change one"),
    ("lmsupply config unset temperature", "back to the default"),
)


def config(
    *,
    action: Annotated[str, typer.Argument(metavar="[list|get|set|unset|path|edit]", show_default=False)] = "list",
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", show_default=False)] = None,
    value: Annotated[list[str] | None, typer.Argument(metavar="[VALUE]...", show_default=False)] = None,
    all: Annotated[bool, typer.Option("--all", help="With list: also show settings at their default.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show and change settings.

    list shows the settings that are set, with their values and sources (env or file);
    --all adds the others; get KEY prints one; set KEY VALUE and unset KEY change the settings
    file; path prints its location; edit opens it in $VISUAL or $EDITOR. Lists take several VALUEs.
    """
    if action not in _ACTIONS:
        raise UsageError(f"unknown action {action!r}", hint="use list, get KEY, set KEY VALUE, unset KEY, path, edit")
    if all and action != "list":
        raise UsageError("`--all` is only for list", hint="leave it out")
    if json and action not in ("list", "get", "path"):
        raise UsageError("`--json` is only for list, get and path", hint="leave it out")
    act, takes = _ACTIONS[action]
    given = (key is not None) + bool(value)
    if given != takes:
        hint = "lmsupply config list --all shows the keys"
        raise UsageError(f"usage: lmsupply config {_USAGE.get(action, action)}", hint=hint)
    if key is not None and key not in SETTINGS and action != "unset":
        raise _unknown(key)
    act(key or "", tuple(value or ()), json, all)


def _list(key: str, value: Sequence[str], as_json: bool, all: bool) -> None:  # one signature for all
    settings, terminal = _readable()
    rows = {name: settings.value(name) for name in SETTINGS}
    if as_json:
        values = {name: {"value": found.value, "source": found.source} for name, found in rows.items()}
        terminal.json({"settings": values, "path": str(paths.settings_file()), "skipped": list(settings.skipped)})
        return
    given = [name for name, found in rows.items() if found.source != "default"]
    names = given + ([name for name in rows if name not in given] if all else [])
    if names:
        columns = [
            Column("SETTING", names),
            Column("VALUE", [shown(rows[name].value) for name in names]),
            Column("SOURCE", [rows[name].source for name in names], rank=1),
            Column("DESCRIPTION", [_description(name) for name in names], rank=2),
        ]
        print_table(terminal, columns, dim=range(len(given), len(names)) if given else (), more="lmsupply run --help")
    if not all:
        left = len(rows) - len(given)
        every = (
            f"All {left} settings have" if not given else "Another setting has" if left == 1 else f"{left} others have"
        )
        terminal.remark(f"{every} their defaults. Show them: lmsupply config list --all.")
    terminal.remark(f"Settings file: {shown_place(paths.settings_file())}")


def _description(name: str) -> str:
    text = SETTINGS[name].help
    return text if len(text) <= _HELP_COLUMNS else text[: _HELP_COLUMNS - 1].rsplit(" ", 1)[0] + " …"


def _get(key: str, value: Sequence[str], as_json: bool, all: bool) -> None:
    settings, terminal = _readable()
    found = settings.value(key)
    if as_json:
        terminal.json({"key": key, "value": found.value, "source": found.source})
    else:
        terminal.data(shown(found.value))


def _set(key: str, value: Sequence[str], as_json: bool, all: bool) -> None:
    terminal, setting = Terminal.of_process(), SETTINGS[key]
    if setting.kind in ("list", "bias"):
        parts = [part.strip() for text in value for part in text.split(",")] if setting.commas else value
        typed = check_value(key, tuple(parts), place="config set")
    elif len(value) == 1:
        typed = parse_text(key, value[0], place="config set")
    else:
        raise UsageError(f"{key} takes one value", hint=f"lmsupply config set {key} VALUE")
    set_value(paths.settings_file(), key, typed)
    terminal.say(f"{key} = {literal(typed)} in {paths.settings_file()}")
    if key == "allowed_licenses":
        _note_unknown(typed, terminal)
    if os.environ.get(setting.env):
        terminal.say(f"note: {setting.env} is set in the environment and takes precedence")
    _readable()


def _note_unknown(names: Sequence[str], terminal: Terminal) -> None:
    """A license of any name may be on the Hub, but it may be a misspelled one too."""
    from difflib import get_close_matches

    from lmsupply_cli.catalogue.lookup import read_catalogue

    known = {entry.license.id.lower(): entry.license.id for entry in read_catalogue()} | {"unknown": "unknown"}
    for name in names:
        if name.lower() not in known:
            near = get_close_matches(name.lower(), known, n=1)
            hint = f"did you mean {known[near[0]]}?" if near else f"licenses in it: {', '.join(sorted(known.values()))}"
            terminal.say(f"note: no model in the catalogue has the license {name}; {hint}")


def _unset(key: str, value: Sequence[str], as_json: bool, all: bool) -> None:
    terminal = Terminal.of_process()
    if unset_value(paths.settings_file(), key):
        terminal.say(f"{key} is no longer set in {paths.settings_file()}")
        _readable()
    elif key not in SETTINGS:
        raise _unknown(key)
    else:
        terminal.say(f"{key} was not set in {paths.settings_file()}")


def _path(key: str, value: Sequence[str], as_json: bool, all: bool) -> None:
    terminal = Terminal.of_process()
    if as_json:
        terminal.json({"path": str(paths.settings_file())})
    else:
        terminal.data(shown_place(paths.settings_file()))


def _edit(key: str, value: Sequence[str], as_json: bool, all: bool) -> None:
    from lmsupply_cli.cli.editor import open_editor

    file = paths.settings_file()
    with our_io_error(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    changed = open_editor(file)
    terminal = Context.of().terminal  # a mistake is reported now, not at the next run
    terminal.say(f"saved {file}" if changed else f"nothing changed in {file}")


_ACTIONS: dict[str, tuple[Callable[[str, Sequence[str], bool, bool], None], int]] = {
    "list": (_list, 0),
    "get": (_get, 1),
    "set": (_set, 2),
    "unset": (_unset, 1),
    "path": (_path, 0),
    "edit": (_edit, 0),
}


def shown(value: Any) -> str:
    """A value for people: as it would be typed."""
    if value is None or value == ():
        return "–"
    if isinstance(value, tuple):
        return ", ".join(as_text([one]) for one in value)
    return as_text(value)


def _unknown(key: str) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(key, SETTINGS, n=1)
    hint = f"did you mean {near[0]}?" if near else "lmsupply config list --all shows them"
    return UsageError(f"unknown setting {key!r}", hint=hint)


def _readable() -> tuple[Settings, Terminal]:
    """The settings that can be read; a note names the others, so that the user can fix them with these commands."""
    context = Context.of(skip_bad=True)
    say_notes(context.terminal, (f"skipped: {text}" for text in context.settings.skipped))
    return context.settings, context.terminal
