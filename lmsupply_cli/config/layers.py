"""The layers: flag > preset > template > environment > settings file > model > our default. A value knows its source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lmsupply_cli.config.lines import read_entries, split_lines
from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS
from lmsupply_cli.config.values import check_value, parse_text
from lmsupply_cli.errors import SettingsError, did_you_mean
from lmsupply_cli.files import is_absent, read_text

_FILE_BYTES = 1_000_000
Source = Literal["flag", "preset", "template", "env", "file", "model", "default"]


class Value(NamedTuple):
    value: Any
    source: Source


@dataclass(frozen=True)
class Settings:
    """Checked values of the layers above the model's; `errors`: what could not be read."""

    layers: Mapping[Source, Mapping[str, Any]] = field(default_factory=dict)
    errors: tuple[SettingsError, ...] = ()

    @property
    def skipped(self) -> tuple[str, ...]:
        """What could not be read, a line each."""
        return tuple(error.message for error in self.errors)

    def get(self, key: str) -> Any:
        return self.value(key).value

    def value(self, key: str, model: Mapping[str, Any] | None = None) -> Value:
        """The value of `key` and its source; `model` is what the model's own files say."""
        for source in ("flag", "preset", "template", "env", "file"):
            if key in self.layers.get(source, {}):
                return Value(self.layers[source][key], source)
        if model and key in model:
            return Value(model[key], "model")
        return Value(SETTINGS[key].default, "default")

    def with_flags(self, **values: Any) -> Settings:
        """With these values as if they had been given as flags."""
        return replace(self, layers={**self.layers, "flag": {**self.layers.get("flag", {}), **values}})

    def generation(self, model: Mapping[str, Any]) -> dict[str, Value]:
        """Every generation option with its source. The repetition penalty is the user's, or None: then it follows from the
        others."""
        values = {key: self.value(key, model) for key in GENERATION_KEYS}
        if values["repetition_penalty"].source == "model":
            values["repetition_penalty"] = Value(None, "model")
        return values


def read_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    preset: Mapping[str, Any] | None = None,
    template: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
    path: Path | None = None,
    skip_bad: bool = False,
) -> Settings:
    """Check and stack the layers; a flag of None was not given. Raises UsageError, SettingsError.

    `skip_bad`: what the file and the environment say wrong is left out and named in `skipped`. That is for commands
    that only look; where a setting changes an answer, one that cannot be read ends the command.
    """
    given = {key: check_value(key, value) for key, value in (flags or {}).items() if value is not None}
    env, bad_env = _read_env(environ)
    file, bad_file = read_file(path) if path else ({}, [])
    bad = [*bad_env, *bad_file]
    if bad and not skip_bad:
        raise bad[0]
    return Settings(
        {"flag": given, "preset": preset or {}, "template": template or {}, "env": env, "file": file},
        tuple(bad),
    )


def read_file(path: Path) -> tuple[dict[str, Any], list[SettingsError]]:
    """What the settings file says, and what is wrong in it. A missing file says nothing."""
    if is_absent(path):
        return {}, []
    try:
        text = read_text(path, limit_bytes=_FILE_BYTES, error=SettingsError)
    except SettingsError as error:
        return {}, [error]
    values: dict[str, Any] = {}
    bad: list[SettingsError] = []
    for entry in read_entries(split_lines(text)):
        place = f"{path}:{entry.start + 1}"
        if entry.problem:
            name = f"{entry.key}: " if entry.key else ""
            bad.append(SettingsError(f"{place}: {name}{entry.problem}", hint=_hint(entry.key)))
        elif entry.key not in SETTINGS:
            bad.append(SettingsError(f"{place}: unknown setting {entry.key!r}", hint=_closest(entry.key)))
        elif entry.key in values:
            bad.append(SettingsError(f"{place}: {entry.key} is set twice", hint="leave one of them out"))
        else:
            try:
                values[entry.key] = check_value(entry.key, entry.value, place=place)
            except SettingsError as error:
                error.key = entry.key
                bad.append(error)
    return values, bad


def _read_env(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[SettingsError]]:
    values: dict[str, Any] = {}
    bad: list[SettingsError] = []
    for key, setting in SETTINGS.items():
        if text := environ.get(setting.env):
            try:
                values[key] = parse_text(key, text, place=setting.env)
            except SettingsError as error:
                error.key = key
                bad.append(error)
    return values, bad


_NO_SETTINGS = {"LMSUPPLY_HOME", "LMSUPPLY_API_KEY"}
_MEANT = {  # options that have no variable, and the setting that does it
    "LMSUPPLY_NO_SAVE": "LMSUPPLY_SAVE_SESSIONS=false",
    "LMSUPPLY_NO_HISTORY": "LMSUPPLY_HISTORY=false",
    "LMSUPPLY_MODEL": "LMSUPPLY_DEFAULT_MODEL",
    "LMSUPPLY_TEMP": "LMSUPPLY_TEMPERATURE",
    "LMSUPPLY_LICENSES": "LMSUPPLY_ALLOWED_LICENSES",
}
_ENFORCING = ("LMSUPPLY_ALLOW", "LMSUPPLY_OFFLINE", "LMSUPPLY_LICEN")


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """LMSUPPLY_ variables that are no settings, with a hint for each. Raises SettingsError for one that seems to restrict
    what may be used: ignoring that could break a rule."""
    known = {setting.env for setting in SETTINGS.values()} | _NO_SETTINGS
    found = {}
    for name in sorted(environ):
        if not name.startswith("LMSUPPLY_") or name in known:
            continue
        meant = _MEANT.get(name)
        otherwise = "to see all settings: lmsupply config list --all"
        hint = f"did you mean {meant}?" if meant else did_you_mean(name, known, otherwise, cutoff=0.85)
        if name.startswith(_ENFORCING):
            raise SettingsError(f"unknown variable {name}", hint=hint)
        found[name] = hint
    return found


def _hint(key: str) -> str:
    form = "the file is TOML, one `key = value` a line"
    return f"{form}; lmsupply config unset {key} removes it" if key else form


def _closest(key: str) -> str:
    return f"{did_you_mean(key, SETTINGS, '')} lmsupply config unset {key} removes it".lstrip()
