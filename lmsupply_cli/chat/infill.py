"""Prompts for the text between a prefix and a suffix, for models that were trained to fill it in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from lmsupply_cli.chat.formatter import Prompt, PromptFormat
from lmsupply_cli.errors import UsageError

_ENDS = ("<|endoftext|>", "<|file_sep|>", "<file_sep>", "<|repo_name|>", "<|fim_pad|>", "<fim_pad>", "<EOT>", "▁<EOT>")


class _Form(NamedTuple):
    """Control strings around the prefix and the suffix. `turned`: the suffix comes first."""

    prefix: str
    suffix: str
    middle: str = ""
    turned: bool = False


_FORMS = (
    _Form("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen 2.5, Qwen 3, Granite
    _Form("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    _Form("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
    _Form("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    _Form("[PREFIX]", "[SUFFIX]", turned=True),  # Codestral
)


def infill(format: PromptFormat, prefix: str, suffix: str, encode: Callable[[str], list[int]]) -> Prompt:
    """The prompt whose answer stands between `prefix` and `suffix`; both are plain text and never control tokens. Raises
    UsageError for a vocabulary without the tokens for it."""
    form = _form(format.control)
    before = (form.suffix, suffix, form.prefix, prefix) if form.turned else (form.prefix, prefix, form.suffix, suffix)
    ids = list(format.begin_ids)
    for number, text in enumerate((*before, form.middle)):
        ids += encode(text) if number % 2 == 0 and text else format.plain_tokens(text, encode)
    ends = [mark for mark in (*_ENDS, *form[:3]) if mark in format.control]
    stop_ids = frozenset(found[0] for mark in ends if len(found := encode(mark)) == 1)
    text = format.begin + "".join((*before, form.middle))
    return Prompt(text, tuple(ids), (), stop_ids=stop_ids, continues=True, control=format.control)


def _form(control: Collection[str]) -> _Form:
    for form in _FORMS:
        if {form.prefix, form.suffix, form.middle} - {""} <= set(control):
            return form
    raise UsageError(
        "this model's vocabulary has no tokens to fill in the middle",
        hint="leave out `suffix`, or use a model for code such as qwen2.5-coder",
    ).of("suffix")
