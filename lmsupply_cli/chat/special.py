"""What a model's folder says about its chat: the template and the special texts, from the files and in the order of
Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmsupply_cli import files
from lmsupply_cli.errors import FileError

CONFIG, MAP = "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE, OTHERS, PROCESSOR = "chat_template.jinja", "additional_chat_templates", "chat_template.json"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class ChatFiles:
    """`special`: the texts that a template may use by name, such as bos_token; `notes`: what is there and was left out,
    and why."""

    template: str | None = None
    special: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_chat_files(folder: Path) -> ChatFiles:
    """Files that are missing are no fault; those that cannot be read become notes."""
    notes: list[str] = []
    config = _object(folder / CONFIG, notes)
    settings = config or {}
    template = _template(folder, settings, notes)
    if "added_tokens_decoder" not in settings:  # an older folder keeps them apart
        settings = settings | (_object(folder / MAP, notes) or {})
    return ChatFiles(template, special_texts(settings), tuple(notes))


def special_texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """The named special tokens as text, those of the model's own kind included (`image_token`, …); each may be written
    as an object. A template sees no others, and asks whether one `is defined`."""
    own = settings.get("extra_special_tokens")
    rows = {name: value for name, value in settings.items() if name in NAMED or name.endswith("_token")}
    rows |= own if isinstance(own, dict) else {}
    found = {}
    for name, value in rows.items():
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found


def _template(folder: Path, settings: Mapping[str, Any], notes: list[str]) -> str | None:
    """A file of its own wins over the entry of tokenizer_config.json; of several, the one named default counts."""
    for path in (folder / TEMPLATE, folder / OTHERS / "default.jinja"):
        if (text := _text(path, notes)) is not None:
            return text or None
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = {row.get("name"): row.get("template") for row in found if isinstance(row, dict)}
    if isinstance(found, dict):
        if found and "default" not in found:
            notes.append(f"{folder / CONFIG} has several chat templates, none of them named default: they are left out")
        found = found.get("default")
    elif found is None:
        found = (_object(folder / PROCESSOR, notes) or {}).get("chat_template")
    if found is not None and not isinstance(found, str):
        notes.append(f"the chat template in {folder / CONFIG} is no text: it is left out")
        return None
    return found or None


def _text(path: Path, notes: list[str]) -> str | None:
    try:
        return files.read_text(path)
    except FileError as error:
        _note(error, notes)
        return None


def _object(path: Path, notes: list[str]) -> dict[str, Any] | None:
    try:
        value = files.read_json(path)
    except FileError as error:
        _note(error, notes)
        return None
    if isinstance(value, dict):
        return value
    notes.append(f"{path} is no JSON object: it is left out")
    return None


def _note(error: FileError, notes: list[str]) -> None:
    if not isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
        notes.append(f"{error.message}: it is left out")
