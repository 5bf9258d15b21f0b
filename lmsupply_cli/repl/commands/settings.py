"""/system, /set, /format, /stats and /think: how answers are generated and shown."""

from __future__ import annotations

from collections.abc import Iterable

from lmsupply_cli.engine.guidance import Guidance, grammar_of, schema_of
from lmsupply_cli.errors import UsageError
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.command import Command, one_of
from lmsupply_cli.repl.parameters import PARAMETERS, parameter_key, parameter_rows, parameter_value, parse_parameter

_OLLAMA = {
    "verbose": ("/stats", "on"),
    "quiet": ("/stats", "off"),
    "think": ("/think", "on"),
    "nothink": ("/think", "off"),
    "noformat": ("/format", "off"),
}
_NO_THINKING = "This model has no thinking mode."


def _system(chat: Chat, rest: str) -> None:
    if not rest:
        chat.say(chat.session.system or "There is no system prompt; /system TEXT sets one.")
        return
    chat.session.system = rest.strip('"') if rest.startswith('"') else "" if rest == "''" else rest
    chat.say("System prompt set." if chat.session.system else "System prompt cleared.")


def _set(chat: Chat, rest: str) -> None:
    what, _, value = rest.partition(" ")
    value = value.strip()
    if not what:
        chat.say_rows(parameter_rows(chat.session))
    elif what in _OLLAMA and not value:
        name, argument = _OLLAMA[what]
        {"/stats": _stats, "/think": _think, "/format": _format}[name](chat, argument)
    elif what == "format":
        _format(chat, value)
    elif what == "system":
        _system(chat, value)
    elif what == "parameter":
        _parameter(chat, value)
    else:
        _parameter(chat, rest)


def _parameter(chat: Chat, rest: str) -> None:
    """Show a parameter, or set it."""
    name, _, text = rest.partition(" ")
    if not name:
        chat.say_rows(parameter_rows(chat.session))
        return
    key, text = parameter_key(name), text.strip()
    if not text:
        chat.say_rows(parameter_rows(chat.session, key))
        return
    value = parse_parameter(key, text)
    chat.set_parameter(key, value)
    default = ", the default" if value is None else ""
    chat.say(f"{key} set to {parameter_value(chat.session, key)}{default}.")


def _complete_set(_: Chat, rest: str) -> Iterable[str]:
    first, space, name = rest.partition(" ")
    if not space:
        return [word for word in (*PARAMETERS, "parameter", "system", "format", *_OLLAMA) if word.startswith(first)]
    if first == "parameter" and " " not in name:
        return [f"parameter {key}" for key in PARAMETERS if key.startswith(name)]
    return []


def _stats(chat: Chat, rest: str) -> None:
    if rest not in ("", "on", "off"):
        raise UsageError(f"/stats takes on or off, not {rest!r}")
    chat.show_stats = rest == "on" if rest else not chat.show_stats
    chat.say("Stats on." if chat.show_stats else "Stats off.")


def _think(chat: Chat, rest: str) -> None:
    if rest not in ("", "on", "off", "hide"):
        raise UsageError(f"/think takes on, hide or off, not {rest!r}")
    if not chat.session.prompter.format.can_think:
        chat.think = rest or chat.think
        chat.say(_NO_THINKING)
        return
    if not rest:
        chat.say(f"Thinking is {chat.think}.")
        return
    refused = chat.set_think(rest)
    done = {"on": "Thinking on.", "hide": "Thinking on, not shown.", "off": "Thinking off."}
    chat.say(refused or done[rest])


def _format(chat: Chat, rest: str) -> None:
    if not rest:
        chat.say_format()
        return
    what, _, value = rest.partition(" ")
    if what == "off":
        chat.set_format(None)
        chat.say_format()
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
        raise UsageError(f"unknown format {rest!r}", hint="/format json|schema FILE|regex PATTERN|grammar FILE|off")
    chat.set_format(guidance)
    chat.say_format()


SETTINGS_COMMANDS = (
    Command(
        ("/system",),
        "[TEXT]",
        'show or set the system prompt; "" clears it',
        _system,
        example="/system Answer in one sentence.",
    ),
    Command(
        ("/set",),
        "[NAME VALUE]",
        "show or change a generation setting",
        _set,
        _complete_set,
        details="Without a name it lists all settings, without a value it shows one; the value `default` resets it. "
        "Ollama's forms (/set parameter num_ctx 4096, /set system TEXT, /set verbose, /set nothink) work too.",
        example="/set temperature 0.2",
        synonyms=("/settings", "/config", "/parameters", "/params"),
    ),
    Command(
        ("/format",),
        "[WHAT]",
        "constrain answers to json, schema FILE, regex PATTERN or grammar FILE; off removes it",
        _format,
        one_of("json", "schema", "regex", "grammar", "off"),
        details="You can type a schema as JSON instead of a file name.",
        example='/format {"enum": ["yes", "no"]}',
    ),
    Command(
        ("/stats",),
        "[on|off]",
        "show tokens and speed after each answer",
        _stats,
        one_of("on", "off"),
        synonyms=("/verbose",),
    ),
    Command(
        ("/think",),
        "[on|hide|off]",
        "show, hide or disable reasoning",
        _think,
        one_of("on", "hide", "off"),
        details="`hide` lets the model reason without showing it. Not every model can be stopped from reasoning.",
        example="/think off",
    ),
)
