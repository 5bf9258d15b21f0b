"""What `lmsupply config` does."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.cli.places import say_notes, shown_place
from lmsupply_cli.config.edit import literal, set_value, unset_value
from lmsupply_cli.config.layers import Settings, read_settings
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.config.values import as_text, check_value, parse_text
from lmsupply_cli.errors import SettingsError, UsageError
from lmsupply_cli.files import our_io_error
from lmsupply_cli.render.terminal import Terminal


def configure(action: str, key: str | None, value: Sequence[str], *, as_json: bool) -> None:
    """Raises UsageError, SettingsError."""
    terminal = Terminal.of_process()
    if action not in ACTIONS:
        raise UsageError(f"config does not know {action!r}", hint="list, get KEY, set KEY VALUE, unset KEY, path, edit")
    act, takes = ACTIONS[action]
    given = (key is not None) + bool(value)
    if given != takes:
        usage = {"get": "get KEY", "set": "set KEY VALUE", "unset": "unset KEY"}.get(action, action)
        raise UsageError(f"usage: lmsupply config {usage}", hint="lmsupply config list shows the keys")
    if key is not None and key not in SETTINGS and action != "unset":
        raise _unknown(key)
    act(terminal, key or "", value, as_json)


def _list(terminal: Terminal, key: str, value: Sequence[str], as_json: bool) -> None:  # one signature for all
    settings = _readable(terminal)
    rows = {name: settings.value(name) for name in SETTINGS}
    if as_json:
        values = {name: {"value": found.value, "source": found.source} for name, found in rows.items()}
        terminal.json({"settings": values, "path": str(paths.settings_file()), "skipped": list(settings.skipped)})
        return
    width = max(map(len, rows))
    for name, found in rows.items():
        terminal.data(f"{name.ljust(width)}  {shown(found.value)}  ({found.source})", indent=width + 2)
    terminal.data(f"the file: {shown_place(paths.settings_file())}")


def _get(terminal: Terminal, key: str, value: Sequence[str], as_json: bool) -> None:
    found = _readable(terminal).value(key)
    if as_json:
        terminal.json({"key": key, "value": found.value, "source": found.source})
    else:
        terminal.data(shown(found.value))


def _set(terminal: Terminal, key: str, value: Sequence[str], as_json: bool) -> None:
    setting = SETTINGS[key]
    if setting.kind in ("list", "bias"):
        typed = check_value(key, tuple(value), place="config set")
    elif len(value) == 1:
        typed = parse_text(key, value[0], place="config set")
    else:
        raise UsageError(f"{key} takes one value", hint=f"lmsupply config set {key} VALUE")
    set_value(paths.settings_file(), key, typed)
    terminal.say(f"{key} = {literal(typed)} in {paths.settings_file()}")
    if os.environ.get(setting.env):
        terminal.say(f"note: {setting.env} is set in the environment and goes first")
    _readable(terminal)


def _unset(terminal: Terminal, key: str, value: Sequence[str], as_json: bool) -> None:
    if unset_value(paths.settings_file(), key):
        terminal.say(f"{key} is no longer set in {paths.settings_file()}")
        _readable(terminal)
    elif key not in SETTINGS:
        raise _unknown(key)
    else:
        terminal.say(f"{key} was not set in {paths.settings_file()}")


def _path(terminal: Terminal, key: str, value: Sequence[str], as_json: bool) -> None:
    if as_json:
        terminal.json({"path": str(paths.settings_file())})
    else:
        terminal.data(shown_place(paths.settings_file()))


def _edit(terminal: Terminal, key: str, value: Sequence[str], as_json: bool) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError("no editor is known", hint=f"set EDITOR, or edit {paths.settings_file()} yourself")
    file = paths.settings_file()
    with our_io_error(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot start {editor}: {reason}", hint="set EDITOR to an editor that is there") from error
    if code:
        raise SettingsError(f"{editor} ended with {code}", hint=f"the settings are in {file}")
    _settings(terminal)  # a mistake is said now, not at the next run


ACTIONS: dict[str, tuple[Callable[[Terminal, str, Sequence[str], bool], None], int]] = {
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
    near = get_close_matches(key, SETTINGS, n=1)
    return UsageError(
        f"unknown setting {key!r}", hint=f"did you mean {near[0]}?" if near else "lmsupply config list shows them"
    )


def _settings(terminal: Terminal) -> Settings:
    return read_settings(environ=terminal.environ, path=paths.settings_file())


def _readable(terminal: Terminal) -> Settings:
    """The settings that can be read; the rest is said, so that it can be put right with these commands."""
    settings = read_settings(environ=terminal.environ, path=paths.settings_file(), skip_bad=True)
    say_notes(terminal, (f"skipped: {text}" for text in settings.skipped))
    return settings
