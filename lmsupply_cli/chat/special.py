"""What a model's folder says about its chat: the template and the special texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_template(folder: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    """chat_template.jinja, else tokenizer_config.json's (of several, the one named default)."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        pass
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):
        template = next(
            (t.get("template") for t in template if isinstance(t, dict) and t.get("name") == "default"), None
        )
    return template if isinstance(template, str) and template else None


def special_texts(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and `eos_token` as text, "" where there is none; both may be written as objects."""
    texts = {}
    for key in ("bos_token", "eos_token"):
        value = tokenizer_config.get(key)
        if isinstance(value, dict):
            value = value.get("content")
        texts[key] = value if isinstance(value, str) else ""
    return texts
