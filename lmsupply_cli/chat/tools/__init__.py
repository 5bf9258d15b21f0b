"""Tools: what a model may call, and how each family writes it. One class a family."""

from __future__ import annotations

from collections.abc import Collection
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
    `control` strings; the generic one for a form that is not known."""
    source = getattr(formatter, "source", "") if formatter.name == "template" else ""
    return _by_template(formatter, source) if source else _by_name(formatter, control)


def _by_template(formatter: Any, source: str) -> ToolFamily:
    if "<|tool|>" in source and "<|/tool|>" in source:
        return Phi4Mini(formatter)
    if "tools" not in source:
        return Generic(formatter)
    if "<tool_call>" in source and '"arguments": ' in source.replace("\\", "") and "<function=" not in source:
        return Hermes(formatter)
    if "[AVAILABLE_TOOLS]" in source and "[TOOL_CALLS]" in source and "[ARGS]" not in source:
        return Mistral(formatter)
    if "ipython" in source and '"parameters": ' in source:
        return Llama(formatter)
    if "<|channel|>" in source and "functions." in source:
        return Harmony(formatter)
    return Generic(formatter)


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
