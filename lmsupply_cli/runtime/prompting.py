"""The prompt of a model's folder, without loading the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lmsupply_cli.chat.formats import FormatChoice, choose_formatter
from lmsupply_cli.chat.formats.families import Qwen
from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.chat.formatter import ChatFormatter
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.reasoning import Markers, find_markers
from lmsupply_cli.chat.segments import Defuser
from lmsupply_cli.chat.special import read_template, special_texts
from lmsupply_cli.engine.folder import ModelFolder


def read_format(folder: ModelFolder, *, wanted: str = "") -> FormatChoice:
    """`wanted`: "template" or a family. Raises UsageError, ModelFilesError."""
    settings = folder.read_json("tokenizer_config.json")
    return choose_formatter(
        read_template(folder.path, settings),
        folder.control_strings,
        special_texts(settings),
        vocabulary=folder.model.get("vocab_size", 0),
        model_type=folder.model.get("type", ""),
        wanted=wanted,
    )


def read_markers(folder: ModelFolder) -> Markers | None:
    template = read_template(folder.path, folder.read_json("tokenizer_config.json"))
    return find_markers(folder.control_strings, template or "")


def set_thinking(
    formatter: ChatFormatter, markers: Markers | None, *, thinks: bool, effort: str | None = None
) -> tuple[ChatFormatter, str]:
    """The format with thinking on or off, and what could not be done ("" where all could)."""
    said = []
    if isinstance(formatter, Qwen) and formatter.thinks:
        formatter = replace(formatter, enable_thinking=thinks)
        said += ["--reasoning-effort does nothing: the format qwen knows no such switch"] if effort else []
        return formatter, "; ".join(said)
    variables: dict[str, Any] = ({} if thinks else {"enable_thinking": False}) | (
        {"reasoning_effort": effort} if effort else {}
    )
    source = formatter.source if isinstance(formatter, Template) else ""
    known = {name: value for name, value in variables.items() if name in source}
    if isinstance(formatter, Template):
        kept = {name: value for name, value in formatter.variables.items() if name != "enable_thinking"}
        formatter = formatter.with_variables(**(kept | known))
    if "enable_thinking" in variables.keys() - known.keys() and markers is not None:
        said.append("this model's chat format has no switch for thinking: it thinks, and that is not shown")
    if "reasoning_effort" in variables.keys() - known.keys():
        said.append("--reasoning-effort does nothing: this model's chat format does not ask for it")
    return formatter, "; ".join(said)


def render_prompt(folder: ModelFolder, messages: Sequence[ChatMessage], formatter: ChatFormatter | None = None) -> str:
    """The exact text that the model would read."""
    defuser = Defuser(folder.control_strings, avoid="".join(m.content for m in messages))
    return defuser.plain((formatter or read_format(folder).formatter).render(defuser.messages(messages)))
