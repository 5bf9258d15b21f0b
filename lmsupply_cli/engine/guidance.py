"""Answers that follow a JSON schema, a regular expression or a Lark grammar, by llguidance. Its only importer.

A guidance becomes a mask over the logits: `Matcher` says which tokens may come next. It is checked before a model is
loaded, against the 256 bytes. Two things are added to a schema. White space is fixed, since weak models write it
without end. And an object that names its properties has no others, for the same reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lmsupply_cli import files
from lmsupply_cli.encoding import encode_inside
from lmsupply_cli.engine.finite import has_instance
from lmsupply_cli.engine.regexes import with_ascii_classes
from lmsupply_cli.errors import EngineError, FileError, UsageError
from lmsupply_cli.hardware.host import give_back_memory

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
_EXACT = 2**53  # llguidance holds numbers as float64
_NUMBERS = ("const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_FORMATS = ("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "unknown")
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_SCHEMAS = ("additionalProperties", "additionalItems", "items")  # one schema, or for items a list
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LARK_WORDS = re.compile(r'"(?:\\.|[^"\\])*"|/(?P<pattern>(?:\\.|[^/\\\n])+)/|//.*|#.*')
_REGEX_ERROR = re.compile(r"regex parse error: .*error: (.*?)(?: \d+ \| .*)?$")
_MOST_CHARACTERS = 1_000_000
_ANY_JSON = {"anyOf": [{"type": "object"}, {"type": "array"}]}


@dataclass(frozen=True, slots=True)
class Guidance:
    """What an answer must follow. `text` is as llguidance takes it.

    >>> from lmsupply_cli import Guidance, load
    >>> with load("guide") as model:
    ...     answer = model.generate("Which color?", guidance=Guidance.regex("(red|green)"), seed=1)
    ...     print(answer.text, answer.complete)
    """

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
    def compiled(self) -> str:
        """The grammar that llguidance reads."""
        from llguidance import LLMatcher

        if self.kind == "json_schema":
            return LLMatcher.grammar_from_json_schema(self.text)
        return LLMatcher.grammar_from_regex(self.text) if self.kind == "regex" else self.text

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
        return cls("regex", with_ascii_classes(pattern))

    @classmethod
    def grammar(cls, text: str) -> Guidance:
        """In Lark's syntax as llguidance takes it; it begins at `start`. Raises UsageError."""
        _check_size(text, "grammar")
        if "start" not in text:
            raise UsageError("the grammar has no rule named start", hint='such as: start: "yes" | "no"')
        return cls("lark_grammar", _LARK_WORDS.sub(_ascii_pattern, text))


def _ascii_pattern(word: re.Match[str]) -> str:
    return f"/{with_ascii_classes(word['pattern'])}/" if word["pattern"] else word[0]


class Tokens(Protocol):
    """The tokens of a model as a guidance needs them."""

    def encode(self, text: str) -> list[int]:
        """Text to ids."""

    def token_bytes(self, token: int) -> bytes | None:
        """What a token stands for; None for a control token and for an id without one."""


class GuidanceVocabulary:
    """The tokens of a model as llguidance sees them: made once, a second or less for 128,000 of them."""

    def __init__(self, size: int, tokens: Tokens, names: Mapping[int, str]) -> None:
        """`size`: of the logits; `names`: of control tokens, which only a Lark grammar can ask for. What has no bytes is
        never allowed."""
        from llguidance import LLTokenizer

        self.size = size
        given: Any = _Given(size, tokens, names)
        self.compiled = LLTokenizer(given, n_vocab=size + 1, eos_token=[size])
        given.tokens = []  # it has its own copy
        give_back_memory()


class _Given:
    """What LLTokenizer asks of a tokenizer. The end of an answer is a token of its own beyond the vocabulary: a model
    may have several, and all are allowed where it is."""

    is_tokenizer_wrapper = True
    bos_token_id: int | None = None

    def __init__(self, size: int, tokens: Tokens, names: Mapping[int, str]) -> None:
        self._encode, self._names = tokens.encode, names
        self.eos_token_id = size
        self.tokens = [tokens.token_bytes(token) or b"" for token in range(size)]
        for token, name in names.items():
            if token < size:
                self.tokens[token] = b"\xff" + name.encode()
        self.tokens.append(b"\xff<end of the answer>")
        self.special_token_ids = sorted({token for token in names if token < size} | {size})

    def __call__(self, text: str | bytes) -> list[int]:
        """Where the guidance leaves one text, its usual tokens are taken; none of them steers the model."""
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        ids = encode_inside(text, self._encode)
        if any(token in self._names for token in ids):
            ids = [token for char in text for token in encode_inside(char, self._encode)]
        return ids


class _Bytes:
    """A vocabulary of the 256 bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token: int) -> bytes | None:
        return bytes([token])


class Matcher:
    """One answer that follows a guidance, token by token."""

    def __init__(self, guidance: Guidance, vocabulary: GuidanceVocabulary) -> None:
        """Raises UsageError for a guidance that llguidance does not take."""
        import numpy as np
        from llguidance import LLMatcher

        self._np = np
        self._guidance, self._vocabulary = guidance, vocabulary
        self._matcher = LLMatcher(vocabulary.compiled, guidance.compiled, log_level=0)
        self._mask = np.zeros((1, (vocabulary.size + 1 + 31) // 32), dtype=np.int32)
        if error := self._matcher.get_error():
            raise UsageError(f"the {guidance.name} cannot be followed: {_in_one_line(error)}")

    def allowed(self, ends: Collection[int] = ()) -> Allowed:
        """Which tokens may come next; `ends` are those that end the answer, allowed where it is complete. Raises
        EngineError where none may."""
        np, mask = self._np, self._mask
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        size = self._vocabulary.size
        bits: Allowed = np.unpackbits(mask.view(np.uint8)[0], count=size + 1, bitorder="little").view(np.bool_)
        allowed = bits[:size]
        allowed[list(ends)] = bits[size]
        error = _in_one_line(self._matcher.get_error())
        if error or not (allowed.any() or bits[size]):
            why = error or "no token of this model can come next"
            raise EngineError(f"the answer cannot follow the {self._guidance.name} any further: {why}")
        return allowed

    def accept(self, token: int) -> None:
        """`token`, which was allowed and is no end, comes next."""
        self._matcher.consume_token(token)

    @property
    def complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    def accepts(self, text: str) -> bool:
        """Whether `text` would be a complete answer."""
        whole = Matcher(self._guidance, _byte_vocabulary())._matcher
        return whole.consume_tokens(list(text.encode())) and whole.is_accepting() if text else whole.is_accepting()


@lru_cache(maxsize=1)
def _byte_vocabulary() -> GuidanceVocabulary:
    return GuidanceVocabulary(256, _Bytes(), {})


def check_guidance(guidance: Guidance) -> None:
    """Raises UsageError for what llguidance does not take, and for what no answer can follow. Whether a model has the
    control tokens that a grammar names is found out with the model."""
    if guidance.kind == "lark_grammar" and "<" in _LARK_WORDS.sub("", guidance.text):
        return
    try:
        Matcher(guidance, _byte_vocabulary()).allowed()
    except EngineError as error:
        raise UsageError(
            f"the {guidance.name} cannot be satisfied: no answer can begin", hint="does it lead back to itself?"
        ) from error


def _in_one_line(text: str) -> str:
    """What llguidance says, without the state of its parser."""
    line = " ".join(text.partition("<state>")[0].split())
    if found := _REGEX_ERROR.search(line):
        return found[1]
    return line if len(line) <= 400 else f"{line[:399]}…"


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
    for keyword, value in schema.items():
        _check_keyword(keyword, value, place)
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


def _check_keyword(keyword: str, value: Any, place: str) -> None:
    if keyword in _ASKS_NOTHING and _ASKS_NOTHING[keyword](value):
        return
    if keyword not in _KEYWORDS | _ANNOTATIONS and not keyword.startswith("x-"):
        near = get_close_matches(keyword, _KEYWORDS, n=1)
        raise UsageError(
            f"{place} uses the keyword {keyword!r}, which is not supported",
            hint=f"did you mean {near[0]!r}?" if near else "leave it out, and check it afterwards",
        )
    if keyword in _NUMBERS and (number := next(_inexact(value), None)) is not None:
        raise UsageError(
            f"{place}: {keyword} holds {number}, and whole numbers beyond 2^53 are not exact",
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
