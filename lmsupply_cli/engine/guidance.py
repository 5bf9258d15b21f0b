"""What an answer must follow: a JSON schema, a regular expression or a Lark grammar, checked as far as it can be without
a model. `engine/matcher.py` follows it.

Two things are added to a schema. White space is fixed, since weak models write it without end. And an object that names
its properties has no others, for the same reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lmsupply_cli import files
from lmsupply_cli.engine.finite import has_instance
from lmsupply_cli.engine.regexes import with_ascii_classes
from lmsupply_cli.errors import FileError, UsageError, did_you_mean
from lmsupply_cli.units import cut

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Allowed = npt.NDArray[np.bool_]

Kind = Literal["json_schema", "regex", "lark_grammar"]

_KEYWORDS = frozenset(
    {
        "type", "enum", "const", "anyOf", "allOf", "oneOf", "$ref", "$defs", "definitions", "minLength", "maxLength",
        "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "properties",
        "patternProperties", "additionalProperties", "required", "minProperties", "maxProperties", "items",
        "additionalItems", "prefixItems", "minItems", "maxItems", "x-guidance",
    }
)  # fmt: skip
_ANNOTATIONS = frozenset(
    {
        "title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "$schema",
        "$id", "id", "$anchor", "$comment", "$vocabulary", "contentMediaType", "contentEncoding", "contentSchema",
        "discriminator", "externalDocs", "xml", "format_description",
    }
)  # fmt: skip
_ASKS_NOTHING: Mapping[str, Callable[[Any], bool]] = {  # keywords that are unsupported, unless their value says nothing
    "uniqueItems": lambda v: v is False,
    "nullable": lambda v: v is False,
    "unevaluatedProperties": lambda v: v is True,
    "unevaluatedItems": lambda v: v is True,
    "propertyNames": lambda v: v in (True, {}),
    "dependentRequired": lambda v: v == {},
    "dependentSchemas": lambda v: v == {},
    "dependencies": lambda v: v == {},
    "not": lambda v: v is False,
}
_UNSUPPORTED = frozenset(
    {"if", "then", "else", "contains", "minContains", "maxContains", "$dynamicRef", "$recursiveRef", *_ASKS_NOTHING}
)
_EXACT = 2**53  # llguidance holds numbers as float64
_NUMBERS = ("const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_NAMES: Mapping[Kind, str] = {
    "json_schema": "JSON schema", "regex": "regular expression", "lark_grammar": "grammar",
}  # fmt: skip
_FORMATS = ("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_SCHEMAS = ("additionalProperties", "additionalItems", "items")  # one schema, or for items a list
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LARK_WORDS = re.compile(r'"(?:\\.|[^"\\])*"|/(?P<pattern>(?:\\.|[^/\\\n])+)/|//.*|#.*')
_REPLACED = "\ufffd"  # what half a surrogate pair is read as
_MOST_CHARACTERS = 1_000_000
_ANY_JSON = {"anyOf": [{"type": "object"}, {"type": "array"}]}


@dataclass(frozen=True, slots=True)
class Guidance:
    """A constraint that an answer must follow. `text` is in llguidance's syntax.

    >>> from lmsupply import Guidance, load
    >>> with load("guide") as model:
    ...     answer = model.generate("Which color?", guidance=Guidance.regex("(red|green)"), seed=1)
    ...     print(answer.text, answer.complete)
    """

    kind: Kind
    text: str

    @classmethod
    def json_schema(cls, schema: Any) -> Guidance:
        """A schema as a mapping, as JSON text, or a pydantic model. Raises UsageError for a schema that is not
        supported."""
        if hasattr(schema, "model_json_schema"):
            schema = schema.model_json_schema()
        schema = _parsed(schema)
        if not isinstance(schema, Mapping):
            raise UsageError(f"a schema is a JSON object, not {cut(json.dumps(schema), 60)}")
        _check(schema, "")
        whole = _closed(dict(schema))
        if not has_instance(whole):
            raise UsageError(
                "no answer can satisfy the schema",
                hint="look for required properties that nothing allows, and for a reference that leads back to itself",
            )
        own = schema.get("x-guidance")
        whole["x-guidance"] = {"whitespace_flexible": False} | (dict(own) if isinstance(own, Mapping) else {})
        try:
            return cls("json_schema", json.dumps(whole, ensure_ascii=False, allow_nan=False))
        except ValueError as error:
            raise UsageError("the schema contains a number that is too large") from error

    @property
    def name(self) -> str:
        """The kind, in words."""
        return _NAMES[self.kind]

    @classmethod
    def json(cls) -> Guidance:
        """Any JSON object or array."""
        return cls.json_schema(_ANY_JSON)

    @classmethod
    def regex(cls, pattern: str) -> Guidance:
        """A pattern in the syntax of Rust's regex crate, without look-around and backreferences. Raises UsageError."""
        if not isinstance(pattern, str):
            raise UsageError(f"a regular expression must be a string, not {type(pattern).__name__}")
        if pattern:
            _check_size(pattern if pattern.strip() else f"({pattern})", "regular expression")
        else:
            raise UsageError("the regular expression is empty")
        return cls("regex", with_ascii_classes(pattern))

    @classmethod
    def grammar(cls, text: str) -> Guidance:
        """A grammar in llguidance's dialect of Lark; its start rule is named `start`. Raises UsageError."""
        if not isinstance(text, str):
            raise UsageError(f"a grammar must be a string, not {type(text).__name__}")
        _check_size(text, "grammar")
        if "start" not in text:
            raise UsageError("the grammar has no rule named start", hint='such as: start: "yes" | "no"')
        return cls("lark_grammar", _LARK_WORDS.sub(_ascii_pattern, text))


def _ascii_pattern(word: re.Match[str]) -> str:
    return f"/{with_ascii_classes(word['pattern'])}/" if word["pattern"] else word[0]


def names_control_tokens(guidance: Guidance) -> bool:
    """Whether a grammar has something in angle brackets outside of its strings, patterns and comments."""
    return guidance.kind == "lark_grammar" and "<" in _LARK_WORDS.sub("", guidance.text)


def schema_of(text: str) -> Guidance:
    """A schema from a file, or from JSON that stands there itself. Raises UsageError."""
    if not text.strip() or text.lstrip().startswith(("{", "[")) or text.strip() in ("true", "false", "null"):
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
            raise UsageError(f"the schema is not valid JSON: {error}") from error
    _check_size(schema, "schema")
    try:
        value = files.parse_json(schema, "the schema", error=UsageError)
    except UsageError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise UsageError(
            f"the schema is not valid JSON: {error.__cause__}", hint="give a file or one JSON object"
        ) from error
    if _REPLACED in json.dumps(value, ensure_ascii=False) and _REPLACED not in str(schema):
        raise UsageError("the schema is not valid Unicode: it contains half a surrogate pair")
    return value


def _check_size(text: str | bytes, what: str) -> None:
    if not text.strip():
        raise UsageError(f"the {what} is empty")
    if isinstance(text, str) and any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(f"the {what} is not valid UTF-8")
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"the {what} has {len(text):,} characters, the most is {_MOST_CHARACTERS:,}")


def _check(schema: Any, where: str) -> None:
    """Raises UsageError that names the keyword."""
    if schema is True:
        return
    place = where or "the schema"
    if not isinstance(schema, Mapping):
        raise UsageError(f"{place}: {cut(json.dumps(schema), 40)} is no schema that an answer can follow")
    for keyword, value in schema.items():
        _check_keyword(keyword, value, place)
    _check_names(schema, place)
    for at, part in _parts(schema, where):
        _check(part, at)


def _check_names(schema: Mapping[str, Any], place: str) -> None:
    """The types, the format and the reference that the schema names. Raises UsageError."""
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


def _parts(schema: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """(place, schema) of each schema inside this one."""
    for keyword, value in schema.items():
        at = f"{where}.{keyword}" if where else keyword
        if keyword in _MAPS and isinstance(value, Mapping):
            yield from ((f"{at}.{name}", part) for name, part in value.items())
        elif keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
            yield from (
                (f"{at}[{number}]", part) for number, part in enumerate(value if isinstance(value, list) else [])
            )
        elif keyword in _SCHEMAS and value is not False:
            yield at, value


def _check_keyword(keyword: str, value: Any, place: str) -> None:
    if keyword in _ASKS_NOTHING and _ASKS_NOTHING[keyword](value):
        return
    if keyword not in _KEYWORDS | _ANNOTATIONS and not keyword.startswith("x-"):
        like = () if keyword in _UNSUPPORTED else _KEYWORDS
        raise UsageError(
            f"{place} uses the keyword {keyword!r}, which is not supported",
            hint=did_you_mean(keyword, like, "leave it out, and check the answer yourself"),
        )
    if keyword in _NUMBERS and (number := next(_inexact(value), None)) is not None:
        raise UsageError(
            f"{place}: {keyword} contains {number}, but integers beyond 2^53 are not exact",
            hint="write it as a string with a pattern",
        )


def _inexact(value: Any) -> Iterator[int]:
    """The whole numbers in `value` that a float64 does not hold."""
    if isinstance(value, int) and abs(value) > _EXACT:
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _inexact(one)
    elif isinstance(value, list):
        for one in value:
            yield from _inexact(one)


def with_exact_integers(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which an integer without bounds is between -2^53 and 2^53: weak models write digits without end, and what
    is longer is not exact everywhere, or no number at all."""
    out = {keyword: _changed(keyword, value, with_exact_integers) for keyword, value in schema.items()}
    types = schema.get("type")
    names = types if isinstance(types, list) else [types]
    if "integer" in names and "number" not in names and not {"enum", "const", "multipleOf"} & schema.keys():
        if not {"minimum", "exclusiveMinimum"} & schema.keys():
            out["minimum"] = -_EXACT
        if not {"maximum", "exclusiveMaximum"} & schema.keys():
            out["maximum"] = _EXACT
    return out


def relaxed(schema: Mapping[str, Any], *, without: Collection[str] = ()) -> dict[str, Any]:
    """A copy without the keywords that are not supported, and those in `without`: it allows what `schema` allows, and
    more."""

    def change(part: Mapping[str, Any]) -> dict[str, Any]:
        return relaxed(part, without=without)

    kept = {key: value for key, value in schema.items() if key not in without and _is_supported(key, value)}
    return {keyword: _changed(keyword, value, change) for keyword, value in kept.items()}


def _is_supported(keyword: str, value: Any) -> bool:
    try:
        _check_keyword(keyword, value, "")
        _check_names({keyword: value}, "")
    except UsageError:
        return False
    return True


def _changed(keyword: str, value: Any, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    """The value of one keyword, with the schemas in it changed."""
    if keyword in _MAPS and isinstance(value, Mapping):
        return {name: change(one) if isinstance(one, Mapping) else one for name, one in value.items()}
    if keyword in (*_LISTS, *_SCHEMAS) and isinstance(value, list):
        return [change(one) if isinstance(one, Mapping) else one for one in value]
    return change(value) if keyword in _SCHEMAS and isinstance(value, Mapping) else value


def _closed(schema: dict[str, Any], *, part: bool = False) -> dict[str, Any]:
    """A copy in which objects that name their properties have no others. `part`: of an allOf, which others complete."""
    out: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _ASKS_NOTHING:
            continue
        if keyword == "pattern" and isinstance(value, str):
            out[keyword] = with_ascii_classes(value)
        elif keyword in _MAPS and isinstance(value, Mapping):
            ascii_name = with_ascii_classes if keyword == "patternProperties" else str
            out[keyword] = {
                ascii_name(name): _closed(dict(one)) if isinstance(one, Mapping) else one for name, one in value.items()
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
