"""How a model's folder wants its prompts made, without loading the model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from lmsupply_cli import paths
from lmsupply_cli.chat.control import control_strings
from lmsupply_cli.chat.formats import FAMILIES, choose_formatter, family_of
from lmsupply_cli.chat.formats.families import Qwen
from lmsupply_cli.chat.formats.template import Template, template_worker
from lmsupply_cli.chat.formatter import ChatFormatter, PromptFormat
from lmsupply_cli.chat.reasoning import Markers, find_markers
from lmsupply_cli.chat.special import read_chat_files
from lmsupply_cli.chat.tools import tool_family
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.events import Notice
from lmsupply_cli.worker import Worker, WorkerFailed


@dataclass(frozen=True, slots=True)
class FolderFormat:
    """`notices`: why the format is not what the user would expect, which files were left out, what was asked for and
    cannot be."""

    format: PromptFormat
    notices: tuple[Notice, ...] = ()

    @property
    def visible(self) -> frozenset[str]:
        """Control strings that come out of the detokenizer as text."""
        return self.format.markers.visible if self.format.markers else frozenset()


def prepare_format(folder: ModelFolder, *, wanted: str = "") -> Worker | None:
    """Begin to start the process that renders the folder's template, while other things are done; it ends with the last
    reference to it."""
    if _is_ours(folder.path) or wanted not in ("", "template"):
        return None
    worker = template_worker()
    with suppress(WorkerFailed):  # who renders with it will say so
        worker.start()
    return worker


def read_format(
    folder: ModelFolder, *, wanted: str = "", enable_thinking: bool = True, effort: str | None = None
) -> FolderFormat:
    """`wanted`: "template" or a family; thinking as in `with_thinking`. Raises UsageError, ModelFilesError."""
    found = read_chat_files(folder.path)
    control = control_strings(folder.added_tokens, found.template or "", found.special.values())
    choice = choose_formatter(
        found.template,
        control,
        found.special,
        vocabulary=folder.model.get("vocab_size", 0),
        model_type=folder.model.get("type", ""),
        wanted=wanted,
        trusted=_is_ours(folder.path),
    )
    markers = find_markers(folder.added_strings, found.template or "")
    formatter, refused = with_thinking(choice.formatter, markers, enable=enable_thinking, effort=effort)
    contents = {row["id"]: row["content"] for row in folder.added_tokens}
    begin = "".join(contents.get(token, "") for token in folder.begin_ids)
    notes = "; ".join(filter(None, (*found.notes, choice.note)))
    notices = [Notice("chat_format", notes)] if notes else []
    notices += [Notice("reasoning", refused)] if refused else []
    return FolderFormat(PromptFormat(formatter, control, markers, folder.begin_ids, begin), tuple(notices))


class Capabilities(NamedTuple):
    """`tools`: it was trained to call them; `thinking`: it thinks before it answers, or can be made to."""

    tools: bool
    thinking: bool


def read_capabilities(folder: ModelFolder) -> Capabilities:
    """As the folder's template and vocabulary tell. Nothing is rendered."""
    found = read_chat_files(folder.path)
    template = found.template or ""
    control = control_strings(folder.added_tokens, template, found.special.values())
    family = family_of(control, vocabulary=folder.model.get("vocab_size", 0), model_type=folder.model.get("type", ""))
    formatter = _Unrendered(template) if template else FAMILIES[family](control)
    thinks = getattr(formatter, "can_think", False) or find_markers(folder.added_strings, template) is not None
    return Capabilities(tool_family(formatter, control).native, thinks)


class _Unrendered:
    """A template that is taken at its word."""

    name, shows_tools = "template", True

    def __init__(self, source: str) -> None:
        self.source, self.can_think = source, "enable_thinking" in source


def _is_ours(path: Path) -> bool:
    return path == paths.builtin_model("guide")


def with_thinking(
    formatter: ChatFormatter, markers: Markers | None, *, enable: bool, effort: str | None = None
) -> tuple[ChatFormatter, str]:
    """The format with thinking on or off, and what could not be done ("" where all could)."""
    said = []
    if isinstance(formatter, Qwen) and formatter.can_think:
        formatter = replace(formatter, enable_thinking=enable)
        said += ["`reasoning_effort` has no effect: the qwen format does not support it"] if effort else []
        return formatter, "; ".join(said)
    variables: dict[str, Any] = ({} if enable else {"enable_thinking": False}) | (
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
        said.append("`reasoning_effort` has no effect: this model's chat format does not use it")
    return formatter, "; ".join(said)
