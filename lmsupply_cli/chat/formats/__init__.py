"""Chat formats: the model's own template, those of the families, and a plain one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from lmsupply_cli.chat.formats.families import (
    ChatML,
    DeepSeekR1,
    Gemma,
    Generic,
    Llama3,
    MistralTekken,
    MistralV1,
    MistralV3,
    Phi3,
    Phi4,
    Phi4Mini,
    Qwen,
)
from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.chat.formatter import ChatFormatter
from lmsupply_cli.errors import ModelFilesError, UsageError

_LARGE = 100_000  # tokens of a vocabulary: Phi-4-mini and Tekken have more, Phi-3 and Mistral 7B fewer

FAMILIES: Mapping[str, Callable[[Collection[str]], ChatFormatter]] = {
    "phi3": lambda _: Phi3(),
    "phi4-mini": lambda _: Phi4Mini(),
    "phi4": lambda _: Phi4(),
    "llama3": lambda _: Llama3(),
    "chatml": lambda _: ChatML(),
    "qwen": lambda control: Qwen(can_think="<think>" in control),
    "mistral-v1": lambda _: MistralV1(),
    "mistral-v3": lambda _: MistralV3(),
    "mistral-tekken": lambda _: MistralTekken(),
    "gemma": lambda _: Gemma(),
    "deepseek-r1": lambda _: DeepSeekR1(),
    "generic": lambda _: Generic(),
}


def family_of(control_strings: Collection[str], *, vocabulary: int = 0, model_type: str = "") -> str:
    """The family by the tokens of the vocabulary; `model_type` only decides between formats with the same tokens."""
    control = set(control_strings)
    if "<|im_sep|>" in control:
        return "phi4"
    if {"<|end|>", "<|user|>"} <= control:
        return "phi4-mini" if vocabulary > _LARGE else "phi3"
    if "<|start_header_id|>" in control:
        return "llama3"
    if "<start_of_turn>" in control:
        return "gemma"
    if "[INST]" in control:
        return "mistral-tekken" if vocabulary > _LARGE else "mistral-v3"
    if "<｜User｜>" in control:
        return "deepseek-r1"
    if "<|im_start|>" in control:
        return "qwen" if model_type.startswith("qwen") else "chatml"
    return "mistral-v1" if model_type == "mistral" and "</s>" in control else "generic"


_REGISTERED: dict[str, Callable[[], ChatFormatter]] = {}


def register_chat_format(name: str, make: Callable[[], ChatFormatter]) -> None:
    """Let `chat_format=name` mean what `make` makes, in this process. Raises UsageError for a name that is taken."""
    if name in FAMILIES or name == "template" or not name:
        raise UsageError(f"{name!r} is the name of a chat format already", hint="take another one")
    _REGISTERED[name] = make


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """`note` says why it is not what the user would expect, "" if it is."""

    formatter: ChatFormatter
    note: str = ""


def choose_formatter(
    template: str | None,
    control_strings: Iterable[str],
    special: Mapping[str, str],
    *,
    vocabulary: int = 0,
    model_type: str = "",
    wanted: str = "",
    trusted: bool = False,
) -> FormatChoice:
    """The model's own template; the family's format without one, or where it fails on the simplest chat.

    `special`: the texts of bos_token, eos_token and others, which templates may use; `wanted`: "template" or a family;
    `trusted`: the template is ours. Raises UsageError for a wish that cannot be had, ModelFilesError for a template that fails where no family is
    known.
    """
    control = frozenset(control_strings)
    if wanted and wanted != "template":
        if wanted in _REGISTERED:
            return FormatChoice(_REGISTERED[wanted]())
        if wanted not in FAMILIES:
            raise UsageError(f"unknown chat format {wanted!r}", hint=f"formats: template, {', '.join(FAMILIES)}")
        return FormatChoice(FAMILIES[wanted](control))
    family = FAMILIES[family_of(control, vocabulary=vocabulary, model_type=model_type)](control)
    if not template:
        if wanted:
            raise UsageError("the model has no chat template", hint=f"leave out `chat_format` to use {family.name}")
        return FormatChoice(family)
    try:
        own = Template(
            template,
            special,
            stop=family.stop if family.name != "generic" else (),
            stop_tokens=family.stop_tokens,
            trusted=trusted,
        ).fitted()
    except ModelFilesError as error:
        if wanted or family.name == "generic":
            raise
        return FormatChoice(
            family, f"{error.message}; the format {family.name} is used, by the tokens of the vocabulary"
        )
    return FormatChoice(own)
