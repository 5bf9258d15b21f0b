"""The layers: flag > environment > settings file > model > our default. A value knows its source."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS
from lmsupply_cli.config.values import check_value, parse_text
from lmsupply_cli.errors import SettingsError

Source = Literal["flag", "preset", "env", "file", "model", "default"]


@dataclass(frozen=True, slots=True)
class Value:
    value: Any
    source: Source


@dataclass(frozen=True)
class Settings:
    """Checked values of the layers above the model's, and what they leave to be said."""

    layers: Mapping[Source, Mapping[str, Any]] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        return self.value(key).value

    def value(self, key: str, model: Mapping[str, Any] | None = None) -> Value:
        """The value of `key` and its source; `model` is what the model's own files say."""
        for source in ("flag", "preset", "env", "file"):
            if key in self.layers.get(source, {}):
                return Value(self.layers[source][key], source)
        if model and key in model:
            return Value(model[key], "model")
        return Value(SETTINGS[key].default, "default")

    def generation(self, model: Mapping[str, Any]) -> dict[str, Value]:
        """Every generation option with its source; at temperature 0 the penalty is 1.0 unless the user set one."""
        values = {key: self.value(key, model) for key in GENERATION_KEYS}
        penalty = values["repetition_penalty"]
        if values["temperature"].value == 0 and penalty.source in ("model", "default"):
            values["repetition_penalty"] = Value(1.0, "default")
        return values


def read_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    preset: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
    path: Path | None = None,
) -> Settings:
    """Check and stack the layers; a flag of None was not given. Raises UsageError, SettingsError."""
    given = {key: check_value(key, value) for key, value in (flags or {}).items() if value is not None}
    return Settings(
        {"flag": given, "preset": preset or {}, "env": _read_env(environ), "file": read_file(path) if path else {}}
    )


def _read_env(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {key: environ[setting.env] for key, setting in SETTINGS.items() if environ.get(setting.env)}
    return {key: parse_text(key, text, place=SETTINGS[key].env) for key, text in found.items()}


def read_file(path: Path) -> dict[str, Any]:
    """The settings file: TOML, keys as in the table. A missing file says nothing."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}", hint="the file is TOML, one `key = value` a line") from error
    lines = text.splitlines()
    values = {}
    for key, value in data.items():
        line = next((n for n, row in enumerate(lines, 1) if row.split("=")[0].strip() == key), 1)
        if key not in SETTINGS:
            raise SettingsError(f"{path}:{line}: unknown setting {key!r}", hint=_closest(key))
        values[key] = check_value(key, value, place=f"{path}:{line}")
    return values


def _closest(key: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, SETTINGS, n=1)
    return f"did you mean {near[0]}?" if near else "lmsupply run --help lists the options"
