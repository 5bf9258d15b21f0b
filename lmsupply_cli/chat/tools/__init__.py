"""Tools: what a model may call, and how each family writes it. One class a family."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from lmsupply_cli.chat.tools.family import ToolFamily
from lmsupply_cli.chat.tools.generic import Generic
from lmsupply_cli.chat.tools.harmony import Harmony
from lmsupply_cli.chat.tools.hermes import Hermes
from lmsupply_cli.chat.tools.llama import Llama
from lmsupply_cli.chat.tools.mistral import Mistral
from lmsupply_cli.chat.tools.phi4 import Phi4Mini


def tool_family(formatter: Any, control: Collection[str]) -> ToolFamily:
    """The form that a chat format has for tools: by what its template writes, or by its name and the vocabulary's
    `control` strings; the generic one for a form that is not known, and for a template that does not show its tools."""
    source = getattr(formatter, "source", "") if formatter.name == "template" else ""
    return _by_template(formatter, source) if source else _by_name(formatter, control)


def _by_template(formatter: Any, source: str) -> ToolFamily:
    if "<|tool|>" in source and "<|/tool|>" in source:
        return Phi4Mini(formatter)
    known = next((family for family, writes in _TEMPLATES if writes(source)), None)
    return known(formatter) if known and formatter.shows_tools else Generic(formatter)


def _by_name(formatter: Any, control: Collection[str]) -> ToolFamily:
    if formatter.name == "qwen":
        return Hermes(formatter)
    if formatter.name in ("mistral-v3", "mistral-tekken") and "[TOOL_CALLS]" in control:
        return Mistral(formatter)
    if formatter.name == "llama3" and "<|python_tag|>" in control:
        return Llama(formatter)
    if formatter.name == "phi4-mini":
        return Phi4Mini(formatter)
    return Generic(formatter)


_Made = Callable[[Any], ToolFamily]
_TEMPLATES: tuple[tuple[_Made, Callable[[str], bool]], ...] = (
    (Hermes, lambda s: "<tool_call>" in s and '"arguments": ' in s.replace("\\", "") and "<function=" not in s),
    (Mistral, lambda s: "[AVAILABLE_TOOLS]" in s and "[TOOL_CALLS]" in s and "[ARGS]" not in s),
    (Llama, lambda s: "ipython" in s and '"parameters": ' in s.replace("\\", "")),
    (Harmony, lambda s: "<|channel|>" in s and "functions." in s),
)
