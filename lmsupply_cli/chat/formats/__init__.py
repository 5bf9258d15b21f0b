"""Prompt formats: the model's own template, ChatML, and a plain one for models that have neither."""

from __future__ import annotations

from collections.abc import Iterable

from lmsupply_cli.chat.formats.plain import ChatML, Generic
from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.chat.formatter import ChatFormatter


def choose_formatter(template: str | None, control_strings: Iterable[str], special: dict[str, str]) -> ChatFormatter:
    """The model's own template; else ChatML where the vocabulary has its tokens; else the generic one.

    `special`: the texts of bos_token and eos_token, which templates may use.
    """
    if template:
        return Template(template, special)
    return ChatML() if "<|im_start|>" in set(control_strings) else Generic()
