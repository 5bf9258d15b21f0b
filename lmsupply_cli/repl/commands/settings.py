"""Commands that change how answers are made and shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lmsupply_cli.engine.guidance import Guidance, grammar_of, schema_of
from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.command import Command, one_of
from lmsupply_cli.repl.parameters import EXCLUDED, PARAMETERS, parameter_rows, set_parameter

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop

_OLLAMA = {
    "verbose": ("/stats", "on"),
    "quiet": ("/stats", "off"),
    "think": ("/think", "on"),
    "nothink": ("/think", "off"),
}


def _system(loop: ChatLoop, rest: str) -> None:
    if not rest:
        loop.say(loop.session.system or "There is no system prompt; /system TEXT sets one.")
        return
    loop.session.system = "" if rest in ('""', "''") else rest
    loop.say("The system prompt is set; the chat goes on." if loop.session.system else "There is no system prompt now.")


def _set(loop: ChatLoop, rest: str) -> None:
    what, _, value = rest.partition(" ")
    value = value.strip()
    if not what:
        loop.say_rows(parameter_rows(loop))
    elif what in _OLLAMA and not value:
        name, argument = _OLLAMA[what]
        (_stats if name == "/stats" else _think)(loop, argument)
    elif what == "format":
        _format(loop, value)
    elif what == "system":
        _system(loop, value.strip('"') or '""')
    elif what == "parameter" or what in (*PARAMETERS, *EXCLUDED):
        name, _, text = (value if what == "parameter" else rest).partition(" ")
        if not name or not text.strip():
            raise UsageError("/set parameter needs a name and a value", hint="/set shows the parameters")
        loop.say(set_parameter(loop, name, text.strip()))
    else:
        raise UsageError(
            f"/set knows no {what!r}",
            hint="/set parameter NAME VALUE, /set system TEXT, /set verbose|quiet|think|nothink",
        )


def _complete_set(_: ChatLoop, rest: str) -> Iterable[str]:
    first, space, name = rest.partition(" ")
    if not space:
        return [word for word in ("parameter", "system", "format", *_OLLAMA) if word.startswith(first)]
    if first == "parameter" and " " not in name:
        return [f"parameter {key}" for key in PARAMETERS if key.startswith(name)]
    return []


def _stats(loop: ChatLoop, rest: str) -> None:
    if rest not in ("", "on", "off"):
        raise UsageError(f"/stats takes on or off, not {rest!r}")
    loop.show_stats = rest == "on" if rest else not loop.show_stats
    loop.say("Statistics follow each answer." if loop.show_stats else "No statistics.")


def _think(loop: ChatLoop, rest: str) -> None:
    if rest not in ("", "on", "off", "hide"):
        raise UsageError(f"/think takes on, off or hide, not {rest!r}")
    if not rest:
        loop.say(
            f"Thinking is {loop.think}."
            if loop.session.prompter.format.markers
            else "This model does not mark its thoughts."
        )
        return
    said = loop.set_think(rest)
    loop.say(
        said
        or {"on": "Thoughts are shown.", "hide": "Thoughts are not shown.", "off": "The model answers at once."}[rest]
    )


def _format(loop: ChatLoop, rest: str) -> None:
    if not rest:
        loop.say(f"Answers follow a {loop.session.guidance.name}." if loop.session.guidance else "Answers are free.")
        return
    what, _, value = rest.partition(" ")
    if what == "off":
        loop.set_format(None)
        loop.say("Answers are free from the next one on.")
        return
    if what == "json":
        guidance = Guidance.json()
    elif rest.startswith("{"):
        guidance = schema_of(rest)
    elif what == "schema" and value.strip():
        guidance = schema_of(value.strip())
    elif what == "regex" and value.strip():
        guidance = Guidance.regex(value.strip())
    elif what == "grammar" and value.strip():
        guidance = grammar_of(value.strip())
    else:
        raise UsageError(f"/format knows no {rest!r}", hint="/format json|schema FILE|regex PATTERN|grammar FILE|off")
    loop.set_format(guidance)
    loop.say(f"Answers follow this {guidance.name} from the next one on; /format off frees them.")


SETTINGS_COMMANDS = (
    Command(("/system",), "[TEXT]", 'show or set the system prompt; "" takes it away', _system),
    Command(("/set",), "[parameter N V]", "show or set how answers are made: a name and a value", _set, _complete_set),
    Command(
        ("/format",),
        "[WHAT]",
        "make answers follow json, schema FILE, regex PATTERN or grammar FILE; off",
        _format,
        one_of("json", "schema", "regex", "grammar", "off"),
    ),
    Command(("/stats",), "[on|off]", "show tokens and speed after each answer", _stats, one_of("on", "off")),
    Command(
        ("/think",), "[on|off|hide]", "let a reasoning model think, show it or not", _think, one_of("on", "off", "hide")
    ),
)
