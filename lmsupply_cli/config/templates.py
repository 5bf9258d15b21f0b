"""Templates: saved prompts, system prompts and options, one file each in the `templates` folder beside the settings.

`NAME.toml` has any of `prompt` (with `{input}` where the user's text goes), `system`, `model` and a table `[options]` of
settings; `NAME.md` and `NAME.txt` are a system prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.config.values import check_value
from lmsupply_cli.errors import SettingsError, UsageError, did_you_mean
from lmsupply_cli.files import is_file, listed, parse_toml, read_text

INPUT = "{input}"
EXAMPLE = '''# Your text replaces {input}; without {input}, it is appended to the prompt.
prompt = """Summarize in three sentences:

{input}"""
system = "You are a careful editor."
# model = "phi-4-mini"

[options]
temperature = 0.2
'''
_NAME = re.compile(r"\w[\w.-]{0,99}")
_SUFFIXES = (".toml", ".md", ".txt")
_KEYS = ("prompt", "system", "model", "options")
_LIMIT_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Template:
    """`options` are checked values of the settings table. `prompt` is "" where the template has none."""

    name: str
    path: Path
    prompt: str = ""
    system: str | None = None
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """The prompt for `text`. Raises UsageError for a template that needs a text, without one."""
        if not self.prompt:
            return text
        if INPUT in self.prompt:
            if not text:
                raise UsageError(f"the template {self.name} needs input", hint="add text, a file or piped input")
            return self.prompt.replace(INPUT, text)
        return f"{self.prompt}\n\n{text}" if text else self.prompt


def templates_dir() -> Path:
    return paths.config_dir() / "templates"


def template_names() -> list[str]:
    """Sorted, each once."""
    return sorted({path.stem for path in listed(templates_dir()) if path.suffix in _SUFFIXES and is_file(path)})


def find_template(name: str) -> Path:
    """Raises UsageError."""
    _check_name(name)
    for suffix in _SUFFIXES:
        path = templates_dir() / (name + suffix)
        if is_file(path):
            return path
    hint = did_you_mean(name, template_names(), f"lmsupply templates edit {name} creates it")
    raise UsageError(f"template {name!r} not found", hint=hint)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a valid template name", hint="use letters, digits, dots, '-' and '_'")


def new_template_path(name: str) -> Path:
    """Raises UsageError for an invalid name."""
    _check_name(name)
    if name.endswith(_SUFFIXES):
        raise UsageError(f"{name!r} is a file name", hint=f"leave out {Path(name).suffix}")
    return templates_dir() / f"{name}.toml"


def read_template(name: str) -> Template:
    """Raises UsageError for an unknown name, SettingsError for a file that cannot be used."""
    path, edit = find_template(name), f"lmsupply templates edit {name}"
    try:
        text = read_text(path, limit_bytes=_LIMIT_BYTES, error=SettingsError)
        found = parse_toml(text, str(path), error=SettingsError) if path.suffix == ".toml" else {"system": text.strip()}
    except SettingsError as error:
        raise SettingsError(error.message, hint=edit) from error
    unknown = next((key for key in found if key not in _KEYS), None)
    if unknown:
        raise SettingsError(f"{path}: unknown key {unknown!r}", hint=f"a template has {', '.join(_KEYS)}")
    for key in ("prompt", "system", "model"):
        if not isinstance(found.get(key, ""), str):
            raise SettingsError(f"{path}: {key} must be a string", hint=edit)
    options = _options(found.get("options", {}), path)
    return Template(name, path, found.get("prompt", ""), found.get("system"), found.get("model"), options)


def _options(given: Any, path: Path) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise SettingsError(f"{path}: options must be a table", hint="write [options], then one setting per line")
    for key in given:
        if key not in SETTINGS:
            hint = did_you_mean(key, SETTINGS, "lmsupply config list --all shows the settings")
            raise SettingsError(f"{path}: unknown option {key!r}", hint=hint)
    return {
        key: check_value(key, tuple(value) if isinstance(value, list) else value, place=str(path))
        for key, value in given.items()
    }
