"""/model: go on with another model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lmsupply_cli.repl.command import Command

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop


def _model(loop: ChatLoop, rest: str) -> None:
    if not rest:
        info = loop.session.generator.info
        loop.say(f"{info.ref} on {info.provider}; /model REF goes on with another.")
        return
    loop.change_model(rest)


def _names(loop: ChatLoop, rest: str) -> Iterable[str]:
    return [name for name in loop.model_names() if name.startswith(rest)]


MODELS = (Command(("/model",), "[REF]", "go on with another model", _model, _names),)
