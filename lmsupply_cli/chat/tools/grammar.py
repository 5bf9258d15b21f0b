"""Grammars of answers that may hold tool calls, in llguidance's dialect of Lark.

A family's marks are asked for as tokens (`<[151657]>`) where the vocabulary has them, and as text elsewhere. Free text
never spells a mark, so where one stands in the decoded answer, it is one. JSON has the white space of `json.dumps`,
which models are trained on, and which templates write when the call becomes history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmsupply_cli.chat.reasoning import CLOSE, OPEN, State

JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
SPACE = r"[ \t\r\n]{0,4}"  # bounded: a weak model writes white space without end
BARE = r'[ \t\r\n]*\{[ \t\r\n]*"name"'  # what a call without a mark begins with, as `JsonCalls` reads it


@dataclass(frozen=True, slots=True)
class Offer:
    """What an answer may call. `tools`: pairs of a name and a JSON schema as text; `must`: it is a call; `most`: so many
    calls at most; `thought`: where the prompt leaves a reasoning model, None for another model; `guided`: the body of a
    rule for the text, "" for any text. Guided text and calls exclude each other."""

    tools: tuple[tuple[str, str], ...] = ()
    must: bool = False
    most: int = 1
    thought: State | None = None
    guided: str = ""


@dataclass(frozen=True, slots=True)
class Marks:
    """`ids`: the control strings of a vocabulary that are one token each."""

    ids: Mapping[str, int]

    def symbol(self, mark: str) -> str:
        """A mark in a grammar."""
        return f"<[{self.ids[mark]}]>" if mark in self.ids else literal(mark)


def literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def without(*marks: str, start: str = "") -> str:
    """A terminal: text without `marks`, that does not begin with the pattern `start`."""
    excluded = [f"(?s:.*)({'|'.join(map(_escaped, marks))})(?s:.*)"] if marks else []
    excluded += [f"{start}(?s:.*)"] if start else []
    return " & ".join(["/(?s:.+)/", *(f"~/{pattern}/" for pattern in excluded)])


def arguments(tools: Sequence[tuple[str, str]]) -> list[str]:
    """The rules `args_0`, `args_1`, … for the arguments of the tools."""
    return [f"args_{at}: %json {schema}" for at, (_, schema) in enumerate(tools)]


def bodies(tools: Sequence[tuple[str, str]], key: str, *, bare: bool = False, after: str = "") -> list[str]:
    """The rules `body`, `body_0`, … for `{"name": …, KEY: …}`. `bare`: no mark comes before, but white space may;
    `after`: a rule behind the arguments."""
    rules = ["body: " + " | ".join(f"body_{at}" for at in range(len(tools)))]
    for at, (name, _) in enumerate(tools):
        head = head_of(name, key)
        first = f"/{SPACE}{_escaped(head)}/" if bare else literal(head)
        rules.append(f"body_{at}: {first} args_{at} {after} {literal('}')}")
    return [*rules, *arguments(tools)]


def bare_bodies(offer: Offer, key: str) -> list[str]:
    """As `bodies` of calls without a mark. Beside a JSON text a call is JSON too: both are then read in the same pieces,
    so that what they have in common decides nothing."""
    if offer.must or not offer.guided.startswith("%json"):
        return bodies(offer.tools, key, bare=True)
    calls = [_call_schema(name, key, json.loads(schema)) for name, schema in offer.tools]
    return [
        "body: SPACE? (" + " | ".join(f"body_{at}" for at in range(len(calls))) + ")",
        *(f"body_{at}: %json {json.dumps(call, ensure_ascii=False)}" for at, call in enumerate(calls)),
    ]


def _call_schema(name: str, key: str, schema: Any) -> dict[str, Any]:
    arguments = _moved(schema, f"#/properties/{key}")
    properties = {"name": {"const": name}, key: arguments}
    return {
        "type": "object", "properties": properties, "required": ["name", key], "additionalProperties": False,
        "x-guidance": JSON_STYLE,
    }  # fmt: skip


def _moved(value: Any, to: str) -> Any:
    """A schema that is no longer the whole one, whose references lead to where it is now."""
    if isinstance(value, list):
        return [_moved(one, to) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        word: to + one[1:] if word == "$ref" and isinstance(one, str) else _moved(one, to)
        for word, one in value.items()
        if word != "x-guidance"
    }


def head_of(name: str, key: str) -> str:
    """What stands before the arguments."""
    return f'{{"name": {json.dumps(name)}, "{key}": '


def answer(offer: Offer, marks: Marks, calls: Sequence[str], *, excluded: Sequence[str] = (), bare: str = "") -> str:
    """The grammar of an answer: perhaps a thought, then text, calls (the rule `calls` of `calls`), or both. The text
    contains none of `excluded`; `bare`: calls have no mark, so text does not begin with this pattern, and calls come
    without text."""
    exclusive = offer.must or bool(offer.guided)
    rules = _thought(offer.thought, marks, space=bool(offer.guided))
    marked = "" if bare else "SPACE? " if exclusive else "TEXT? "
    choices = [f"answer: {marked}calls"] if offer.tools else []
    if offer.must:
        rules += choices
    elif offer.guided:
        space = "SPACE? " if offer.guided.startswith("%json") else ""
        rules += [" | ".join([*choices, "guided"] if choices else ["answer: guided"]), f"guided: {space}{offer.guided}"]
    else:
        thoughts = (OPEN, CLOSE) if offer.thought else ()
        text = without(*excluded, *thoughts, start=bare)
        rules += [" | ".join([*choices, "TEXT?"] if choices else ["answer: TEXT?"]), f"TEXT: {text}"]
    rules += calls if offer.tools else ()
    if any("SPACE?" in rule for rule in rules):
        rules.append(f"SPACE: /{SPACE}/")
    return "\n".join(rules) + "\n"


def _thought(state: State | None, marks: Marks, *, space: bool) -> list[str]:
    """`space`: what follows a thought does not allow the white space that models write there."""
    close = marks.symbol(CLOSE) + (" SPACE?" if space else "")
    if state == "start":
        return ["start: thought? answer", f"thought: {marks.symbol(OPEN)} THOUGHT? {close}", _THOUGHT]
    if state == "thinking":
        return [f"start: THOUGHT? {close} answer", _THOUGHT]
    return ["start: answer"]


def several(rule: str, most: int, *, between: str = "") -> str:
    """From one to `most` times a rule. `between`: a literal."""
    more = f"{literal(between)} {rule}" if between else rule
    return f"{rule} ({more}){{0,{most - 1}}}" if most > 1 else rule


def _escaped(text: str) -> str:
    """For a pattern between slashes. Other characters than these mean something else behind a backslash."""
    return re.sub(r"[.\\+*?()|\[\]{}^$/]", r"\\\g<0>", text)


_THOUGHT = f"THOUGHT: {without(CLOSE)}"
