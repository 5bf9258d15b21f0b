"""`lmsupply config`: see and change the settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from lmsupply_cli import paths
from lmsupply_cli.cli.context import Context, notices_object
from lmsupply_cli.cli.options import Debug, Json, check_one_of
from lmsupply_cli.cli.places import shown_place
from lmsupply_cli.config.edit import literal, set_value, unset_value
from lmsupply_cli.config.layers import Value
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.config.values import as_text, check_value, parse_text
from lmsupply_cli.errors import UsageError, did_you_mean
from lmsupply_cli.events import Notice
from lmsupply_cli.files import our_io_error
from lmsupply_cli.render.table import Column, print_table
from lmsupply_cli.units import shortened

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
    if action not in ACTIONS:
        raise UsageError(f"unknown action {action!r}", hint="use list, get KEY, set KEY VALUE, unset KEY, path, edit")
    act, takes = ACTIONS[action]
    given = (key is not None) + bool(value)
    if given != takes:
        hint = "lmsupply config list --all shows the keys"
        raise UsageError(f"usage: lmsupply config {_USAGE.get(action, action)}", hint=hint)
    if key is not None and key not in SETTINGS and action != "unset":
        raise _unknown(key)
    check_one_of({"--all": all, action: action != "list"})
    check_one_of({"--json": json, action: action == "edit"})
    act(_Asked(key or "", tuple(value or ()), json, all))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an action is asked for; `all`: settings at their default too."""

    key: str
    value: Sequence[str]
    as_json: bool
    all: bool


def _list(asked: _Asked) -> None:
    context = _readable()
    settings, terminal = context.settings, context.terminal
    rows = {name: settings.value(name) for name in SETTINGS}
    if asked.as_json:
        values = {name: {"value": found.value, "source": found.source} for name, found in rows.items()}
        terminal.json({"settings": values, "path": str(paths.settings_file()), "skipped": list(settings.skipped)})
        return
    given = [name for name, found in rows.items() if found.source != "default"]
    names = given + ([name for name in rows if name not in given] if asked.all else [])
    if names:
        columns = [
            Column("SETTING", names),
            Column("VALUE", [_shown(name, rows[name]) for name in names]),
            Column("SOURCE", [rows[name].source for name in names], rank=1),
            Column("DESCRIPTION", [shortened(SETTINGS[name].help, _HELP_COLUMNS) for name in names], rank=2),
        ]
        print_table(terminal, columns, dim=range(len(given), len(names)) if given else (), more="lmsupply run --help")
    if not asked.all:
        left = len(rows) - len(given)
        every = (
            f"All {left} settings have" if not given else "Another setting has" if left == 1 else f"{left} others have"
        )
        terminal.remark(f"{every} their defaults. Show them: lmsupply config list --all.")
    terminal.remark(f"Settings file: {shown_place(paths.settings_file())}")


def _shown(key: str, found: Value) -> str:
    """A default that depends on the command is shown in words."""
    words = SETTINGS[key].default_text.replace("`", "")
    return words if words and key == "max_tokens" and found.source == "default" else shown(found.value)


def _get(asked: _Asked) -> None:
    context = _readable()
    found = context.settings.value(asked.key)
    if asked.as_json:
        context.terminal.json({"key": asked.key, "value": found.value, "source": found.source})
    else:
        context.terminal.data(_shown(asked.key, found))


def _set(asked: _Asked) -> None:
    key, value, setting = asked.key, asked.value, SETTINGS[asked.key]
    if setting.kind in ("list", "bias"):
        parts = [part.strip() for text in value for part in text.split(",")] if setting.commas else value
        typed = check_value(key, tuple(parts), place="config set")
    elif len(value) == 1:
        typed = parse_text(key, value[0], place="config set")
    else:
        raise UsageError(f"{key} takes one value", hint=f"lmsupply config set {key} VALUE")
    set_value(paths.settings_file(), key, typed)
    _say_change(asked, f"{key} = {literal(typed)}", typed)


def _unknown_licenses(names: Sequence[str]) -> Iterator[Notice]:
    """The Hub may have any license name, but an unknown one may also be misspelled."""
    from lmsupply_cli.catalogue.entry import license_id
    from lmsupply_cli.catalogue.lookup import read_catalogue

    known = {entry.license.id.lower(): entry.license.id for entry in read_catalogue()} | {"unknown": "unknown"}
    for name in names:
        if license_id(name).lower() not in known:
            every = f"licenses in it: {', '.join(sorted(known.values()))}"
            hint = did_you_mean(name, known.values(), every)
            yield Notice("unknown_license", f"no model in the catalogue has the license {name}; {hint}")


def _unset(asked: _Asked) -> None:
    removed = unset_value(paths.settings_file(), asked.key)
    if not removed and asked.key not in SETTINGS:
        raise _unknown(asked.key)
    _say_change(asked, f"{asked.key} {'is no longer' if removed else 'was not'} set", None)


def _say_change(asked: _Asked, text: str, value: Any) -> None:
    """Print what the file now says about a key, and what overrides it."""
    file, setting = paths.settings_file(), SETTINGS.get(asked.key)
    context = Context.of(skip_bad=True)
    if not asked.as_json:
        context.terminal.say(f"{text} in {file}")
    if asked.key == "default_model" and value:
        from lmsupply_cli.cli.consent import note_missing

        note_missing(context, value)
    if asked.key == "allowed_licenses":
        for notice in _unknown_licenses(value or ()):
            context.notice(notice)
    if setting and os.environ.get(setting.env):
        context.notice(Notice("environment", f"{setting.env} is set in the environment and takes precedence"))
    _say_skipped(context)
    if asked.as_json:
        notices = notices_object(context.notices)
        context.terminal.json({"key": asked.key, "value": value, "file": str(file), "notices": notices})


def _path(asked: _Asked) -> None:
    terminal = Context.of(skip_bad=True).terminal
    if asked.as_json:
        terminal.json({"path": str(paths.settings_file())})
    else:
        terminal.data(shown_place(paths.settings_file()))


def _edit(asked: _Asked) -> None:
    from lmsupply_cli.editor import run_editor

    file = paths.settings_file()
    with our_io_error(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    changed = run_editor(file, os.environ)
    terminal = Context.of().terminal  # a mistake is reported now, not at the next run
    terminal.say(f"saved {file}" if changed else f"nothing changed in {file}")


ACTIONS: dict[str, tuple[Callable[[_Asked], None], int]] = {  # the second: how many words follow
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
    return UsageError(
        f"unknown setting {key!r}", hint=did_you_mean(key, SETTINGS, "lmsupply config list --all shows them")
    )


def _readable() -> Context:
    """With the settings that can be read; a note names the others, so that the user can fix them with these commands."""
    context = Context.of(skip_bad=True)
    _say_skipped(context)
    return context


def _say_skipped(context: Context) -> None:
    for text in context.settings.skipped:
        context.notice(Notice("skipped", f"skipped: {text}"))
