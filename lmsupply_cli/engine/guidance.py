"""Answers that follow a JSON schema, a regular expression or a Lark grammar, by the engine's own llguidance.

A schema is checked here as far as it can be without a model: which keywords llguidance knows was found out with
onnxruntime-genai 0.18. Two things are added to it. White space is fixed, since weak models write it without
end. And an object that names its properties has no others, for the same reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmsupply_cli import files
from lmsupply_cli.engine.finite import has_instance
from lmsupply_cli.errors import FileError, UsageError

Kind = Literal["json_schema", "regex", "lark_grammar"]

_UNKNOWN_KEYWORDS = frozenset(
    {
        "not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "dependentRequired",
        "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef",
    }
)  # fmt: skip
_FORMATS = ("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "unknown")
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_SCHEMAS = ("additionalProperties", "additionalItems", "items")  # one schema, or for items a list
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LARK_WORDS = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\\n])+/|//.*|#.*|(?P<start>\bstart\b)|(?P<control><)')
_BODY = "answer_of_this_row"
_MOST_CHARACTERS = 1_000_000
_ANY_JSON = {"anyOf": [{"type": "object"}, {"type": "array"}]}


@dataclass(frozen=True, slots=True)
class Guidance:
    """What an answer must follow. `text` is as the engine takes it."""

    kind: Kind
    text: str

    @classmethod
    def json_schema(cls, schema: Any) -> Guidance:
        """A schema as a mapping, as JSON text, or a pydantic model. Raises UsageError for what cannot be followed."""
        if hasattr(schema, "model_json_schema"):
            schema = schema.model_json_schema()
        schema = _parsed(schema)
        if not isinstance(schema, Mapping):
            raise UsageError(f"a schema is a JSON object, not {json.dumps(schema)[:60]}")
        _check(schema, "")
        whole = _closed(dict(schema))
        if not has_instance(whole):
            raise UsageError(
                "the schema cannot be satisfied: what it requires leads back to itself without an end",
                hint="leave one of the references in the circle out of required, or give it another choice in an anyOf",
            )
        own = schema.get("x-guidance")
        whole["x-guidance"] = {"whitespace_flexible": False} | (dict(own) if isinstance(own, Mapping) else {})
        return cls("json_schema", json.dumps(whole, ensure_ascii=False))

    @property
    def name(self) -> str:
        """Of the kind, in words."""
        return self.kind.replace("_", " ")

    @property
    def ends_itself(self) -> bool:
        """Whether a complete answer can only end: that of a JSON object or array, not that of a number."""
        return self.kind == "json_schema" and json.loads(self.text).get("type") in ("object", "array")

    @property
    def literals(self) -> str:
        """The text that may have to be said word for word: names, enum, const and patterns of a schema."""
        return _literals(json.loads(self.text)) if self.kind == "json_schema" else self.text

    def followed_by(self, control: int) -> Guidance | None:
        """The same, and then a control token again and again: the engine ends no row of a batch before the others, and
        fails where a guidance has nothing more to say. None where it cannot be written so."""
        if self.kind == "json_schema":
            body = f"{_BODY}: %json {self.text}"
        elif self.kind == "regex":
            pattern = re.sub(r"\\.|/|\n", lambda found: {"/": "\\/", "\n": "\\n"}.get(found[0], found[0]), self.text)
            body = f"{_BODY}: /{pattern}/"
        else:
            found = list(_LARK_WORDS.finditer(self.text))
            if any(one["control"] for one in found):  # it may name the same token
                return None
            body = _LARK_WORDS.sub(lambda one: _BODY if one["start"] else one[0], self.text)
        return Guidance("lark_grammar", f"start: {_BODY} <[{control}]>+\n{body}\n")

    @classmethod
    def json(cls) -> Guidance:
        """Any JSON object or array."""
        return cls.json_schema(_ANY_JSON)

    @classmethod
    def regex(cls, pattern: str) -> Guidance:
        """In the syntax of Rust's regex crate: without look-around and back-references. Raises UsageError."""
        if not pattern:
            raise UsageError("the regular expression is empty")
        _check_size(pattern, "regular expression")
        return cls("regex", pattern)

    @classmethod
    def grammar(cls, text: str) -> Guidance:
        """In Lark's syntax as llguidance takes it; it begins at `start`. Raises UsageError."""
        _check_size(text, "grammar")
        if "start" not in text:
            raise UsageError("the grammar has no rule named start", hint='such as: start: "yes" | "no"')
        return cls("lark_grammar", text)


def allows_empty(guidance: Guidance) -> bool:
    """Whether an empty answer is known to be a complete one."""
    if guidance.kind != "regex":
        return False
    try:
        return re.fullmatch(guidance.text, "") is not None
    except re.error:  # Rust's syntax has more than Python's
        return False


def schema_of(text: str) -> Guidance:
    """A schema from a file, or from JSON that stands there itself. Raises UsageError."""
    if text.lstrip().startswith("{"):
        return Guidance.json_schema(text)
    return Guidance.json_schema(_read(text, "schema"))


def grammar_of(path: str) -> Guidance:
    """Raises UsageError."""
    return Guidance.grammar(_read(path, "grammar"))


def _read(name: str, what: str) -> str:
    try:
        data = files.read_bytes(files.expanded(name), limit_bytes=4 * _MOST_CHARACTERS, regular=False)
        return data.decode("utf-8-sig")
    except FileError as error:
        raise UsageError(f"cannot read the {what}: {error.message.removeprefix('cannot read ')}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the {what}: {name} is not UTF-8 (byte {error.start})") from error


def _parsed(schema: Any) -> Any:
    """A schema as nothing but JSON, from text or from a program's objects. Raises UsageError."""
    if not isinstance(schema, (str, bytes)):
        try:
            schema = json.dumps(dict(schema) if isinstance(schema, Mapping) else schema, allow_nan=False)
        except RecursionError as error:
            raise UsageError("the schema is nested too deeply") from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"the schema is no JSON: {error}") from error
    _check_size(schema, "schema")
    try:
        return files.parse_json(schema, "the schema", error=UsageError)
    except UsageError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise UsageError(f"the schema is no JSON: {error.__cause__}", hint="give a file or one JSON object") from error


def _check_size(text: str | bytes, what: str) -> None:
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"the {what} has {len(text):,} characters, the most is {_MOST_CHARACTERS:,}")


def _check(schema: Any, where: str) -> None:
    """Raises UsageError that names the keyword."""
    if schema is True:
        return
    place = where or "the schema"
    if not isinstance(schema, Mapping):
        raise UsageError(f"{place}: {json.dumps(schema)[:40]} is no schema that an answer can follow")
    for keyword in schema:
        if keyword in _UNKNOWN_KEYWORDS:
            raise UsageError(
                f"{place} uses the keyword {keyword!r}, which is not supported",
                hint="leave it out, and check it afterwards",
            )
    if schema.get("uniqueItems"):
        raise UsageError(f"{place} uses the keyword 'uniqueItems', which is not supported", hint="leave it out")
    types = schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if name not in _TYPES:
            raise UsageError(f"{place}: no such type: {name!r}", hint="types: " + ", ".join(_TYPES))
    if (form := schema.get("format")) is not None and form not in _FORMATS:
        raise UsageError(
            f"{place} uses the format {form!r}, which is not supported", hint="formats: " + ", ".join(_FORMATS)
        )
    if isinstance(ref := schema.get("$ref"), str) and not ref.startswith("#"):
        raise UsageError(
            f"{place} refers to {ref!r}: only references inside the schema are followed", hint="put it in $defs"
        )
    for keyword, value in schema.items():
        at = f"{where}.{keyword}" if where else keyword
        if keyword in _MAPS and isinstance(value, Mapping):
            for name, part in value.items():
                _check(part, f"{at}.{name}")
        elif keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
            for number, part in enumerate(value if isinstance(value, list) else []):
                _check(part, f"{at}[{number}]")
        elif keyword in _SCHEMAS and value is not False:
            _check(value, at)


def _literals(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return ""
    found = [str(schema.get("pattern", "")), json.dumps([schema.get("const"), schema.get("enum")], ensure_ascii=False)]
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, Mapping):
            found += [*(value if keyword == "properties" else ()), *map(_literals, value.values())]
        elif keyword in _LISTS or keyword in _SCHEMAS:
            found += [_literals(one) for one in (value if isinstance(value, list) else [value])]
    return "".join(found)


def _closed(schema: dict[str, Any], *, part: bool = False) -> dict[str, Any]:
    """A copy in which objects that name their properties have no others. `part`: of an allOf, which others complete."""
    out: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, Mapping):
            out[keyword] = {
                name: _closed(dict(one)) if isinstance(one, Mapping) else one for name, one in value.items()
            }
        elif keyword in _LISTS and isinstance(value, list):
            whole = "properties" in schema or keyword == "allOf"
            out[keyword] = [_closed(dict(one), part=whole) if isinstance(one, Mapping) else one for one in value]
        elif keyword in _SCHEMAS and isinstance(value, Mapping):
            out[keyword] = _closed(dict(value))
        else:
            out[keyword] = value
    composed = part or any(keyword in schema for keyword in ("allOf", "anyOf", "oneOf", "$ref", "patternProperties"))
    if "properties" in schema and "additionalProperties" not in schema and not composed:
        out["additionalProperties"] = False
    return out
