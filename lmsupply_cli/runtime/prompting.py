"""The prompt of a model's folder, without loading the model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.chat.formats import choose_formatter
from lmsupply_cli.chat.formats.families import Qwen
from lmsupply_cli.chat.formats.template import Template, template_worker
from lmsupply_cli.chat.formatter import ChatFormatter
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.reasoning import Markers, find_markers
from lmsupply_cli.chat.segments import Defuser
from lmsupply_cli.chat.special import read_chat_files
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.worker import Worker, WorkerFailed


@dataclass(frozen=True, slots=True)
class FolderFormat:
    """`note`: why the format is not what the user would expect, and which files were left out, "" where there is nothing
    to say; `bos_token`: "" where the folder names none."""

    formatter: ChatFormatter
    note: str
    markers: Markers | None
    bos_token: str


def prepare_format(folder: ModelFolder, *, wanted: str = "") -> Worker | None:
    """Begin to start the process that renders the folder's template, while other things are done; it ends with the last
    reference to it."""
    if _is_ours(folder.path) or wanted not in ("", "template"):
        return None
    worker = template_worker()
    with suppress(WorkerFailed):  # who renders with it will say so
        worker.start()
    return worker


def read_format(folder: ModelFolder, *, wanted: str = "") -> FolderFormat:
    """`wanted`: "template" or a family. Raises UsageError, ModelFilesError."""
    found = read_chat_files(folder.path)
    choice = choose_formatter(
        found.template,
        folder.control_strings,
        found.special,
        vocabulary=folder.model.get("vocab_size", 0),
        model_type=folder.model.get("type", ""),
        wanted=wanted,
        trusted=_is_ours(folder.path),
    )
    return FolderFormat(
        choice.formatter,
        "; ".join(filter(None, (*found.notes, choice.note))),
        find_markers(folder.control_strings, found.template or ""),
        found.special.get("bos_token", ""),
    )


def _is_ours(path: Path) -> bool:
    return path == paths.builtin_model("guide")


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
