"""/show: what is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmsupply_cli.chat.formats.template import Template
from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.command import Command, one_of
from lmsupply_cli.repl.parameters import parameter_rows
from lmsupply_cli.units import format_parameters

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop

_WHAT = ("info", "license", "parameters", "system", "template", "prompt")


def _show(loop: ChatLoop, rest: str) -> None:
    generator = loop.session.generator
    if rest in ("", "info"):
        loop.say_rows(_info(loop))
    elif rest in ("license", "license"):
        loop.say(loop.license_text(generator.info))
    elif rest == "parameters":
        loop.say_rows(parameter_rows(loop))
    elif rest == "system":
        loop.say(loop.session.system or "There is no system prompt.")
    elif rest == "template":
        formatter = loop.session.prompter.format.formatter
        loop.say(formatter.source if isinstance(formatter, Template) else f"The built-in format {formatter.name}.")
    elif rest == "prompt":
        loop.say(loop.session.prompt_text() or "There is no message yet.")
    else:
        raise UsageError(f"/show knows no {rest!r}", hint="/show " + "|".join(_WHAT))


def _info(loop: ChatLoop) -> list[tuple[str, str]]:
    generator = loop.session.generator
    info = generator.info
    rows = [
        ("model", info.ref + (f" ({info.repo})" if info.repo else "")),
        ("license", f"{info.license.id} ({info.license.tier})"),
        ("parameters", format_parameters(info.parameters)),
        ("precision", info.precision or "unknown"),
        ("provider", f"{info.provider}, {info.threads} threads"),
        (
            "context",
            f"{generator.context_tokens:,} of {info.context_length:,} tokens, {generator.cached_tokens:,} in the cache",
        ),
        ("format", loop.session.prompter.format.formatter.name),
        ("files", str(info.path)),
        ("chat", loop.chat_name() or "not kept"),
    ]
    if loop.session.dropped:
        rows.append(("dropped", f"{loop.session.dropped} messages are no longer given to the model"))
    return rows


SHOWING = (Command(("/show",), "[WHAT]", f"show {', '.join(_WHAT[:-1])} or {_WHAT[-1]}", _show, one_of(*_WHAT)),)
