"""The prompt of a model's folder, without loading the model."""

from __future__ import annotations

from collections.abc import Sequence

from lmsupply_cli.chat.formats import choose_formatter
from lmsupply_cli.chat.formatter import ChatFormatter
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.segments import Defuser
from lmsupply_cli.chat.special import read_template, special_texts
from lmsupply_cli.engine.folder import ModelFolder


def read_formatter(folder: ModelFolder) -> ChatFormatter:
    settings = folder.read_json("tokenizer_config.json")
    return choose_formatter(read_template(folder.path, settings), folder.control_strings, special_texts(settings))


def render_prompt(folder: ModelFolder, messages: Sequence[ChatMessage]) -> str:
    """The exact text that the model would read."""
    defuser = Defuser(folder.control_strings, avoid="".join(m.content for m in messages))
    return defuser.plain(read_formatter(folder).render(defuser.messages(messages)))
