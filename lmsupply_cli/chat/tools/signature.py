"""The JSON schema of a typed Python function, and its call with the values of a JSON object.

What a type hint means: `int`, `float`, `str`, `bool`, `None`, `Any`; `Literal` and enums (by value); `list`, `set`,
`tuple`, `dict[str, …]`; unions; dataclasses, TypedDicts and Pydantic models; `Annotated[…, "description"]`. The
docstring's first line describes the function, and its parameter lines (Google's and Sphinx's form) the parameters.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from lmsupply_cli.errors import UsageError

Schema = dict[str, Any]

_PLAIN: Mapping[Any, str] = {
    int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null",
}  # fmt: skip
_SECTION = re.compile(r"(?:Args|Arguments|Parameters|Params):\s*$")
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_SPHINX = re.compile(r":param\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)")


def function_schema(function: Callable[..., Any]) -> tuple[str, Schema]:
    """(description, schema of the parameters). Raises UsageError for a parameter that JSON cannot give."""
    text, described = read_docstring(inspect.getdoc(function) or "")
    hints, definitions, required = _hints(function), dict[str, Any](), []
    properties: dict[str, Any] = {}
    for parameter in _parameters(function):
        where = f"the parameter {parameter.name} of {function.__name__}"
        if parameter.name not in hints:
            raise UsageError(f"{where} has no type hint", hint="add one, such as `: str`")
        schema = type_schema(hints[parameter.name], where, definitions)
        if parameter.name in described:
            schema = {**schema, "description": described[parameter.name]}
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
        properties[parameter.name] = schema
    return text, _object(properties, required) | ({"$defs": definitions} if definitions else {})


def call_function(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """The result of a call with JSON values, which are made what the hints say: enums, dataclasses, sets and others."""
    hints = _hints(function)
    return function(**{name: as_hinted(value, hints.get(name, Any)) for name, value in values.items()})


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """(the first line, the description of each parameter)."""
    lines = text.strip().splitlines()
    return (lines[0].strip() if lines else ""), {**_google(lines), **_sphinx(lines)}


def _google(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    section, name, indent = False, "", 0
    for line in lines:
        inner = len(line) - len(line.lstrip())
        if _SECTION.match(line):
            section, name, indent = True, "", 0
        elif line.strip() and not inner:
            section = False
        elif section and line.strip():
            indent = indent or inner
            row = _GOOGLE.match(line.strip()) if inner <= indent else None
            if row:
                name, found[row[1]] = row[1], row[2].strip()
            elif name:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _sphinx(lines: list[str]) -> dict[str, str]:
    return {row[1]: row[2].strip() for line in lines if (row := _SPHINX.match(line.strip()))}


def type_schema(hint: Any, where: str, definitions: dict[str, Any], inside: tuple[Any, ...] = ()) -> Schema:
    """`where`: for the error; `definitions`: filled with what Pydantic models refer to; `inside`: the classes around
    it. Raises UsageError."""
    if hint is Any:
        return {}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if hint in inside:
        raise UsageError(f"{where}: {hint.__name__} contains itself", hint="give the tool as a dict with a schema")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)

    def part(inner: Any, *around: Any) -> Schema:
        return type_schema(inner, where, definitions, (*inside, *around))

    found = _annotated(origin, arguments, part) or _container(origin or hint, arguments, part)
    if found is None and isinstance(hint, type):
        found = _class(hint, part, definitions)
    if found is None:
        raise UsageError(
            f"{where} has the type {hint!r}, which has no JSON form here",
            hint="use int, float, str, bool, Literal, an enum, list, dict, a dataclass or a TypedDict",
        )
    return found


def _annotated(origin: Any, arguments: tuple[Any, ...], part: Callable[..., Schema]) -> Schema | None:
    """Of Annotated, Literal and unions."""
    if origin is typing.Annotated:
        notes = [text for note in arguments[1:] if (text := _note(note))]
        return {**part(arguments[0]), **({"description": notes[0]} if notes else {})}
    if origin is typing.Literal:
        values = [value.value if isinstance(value, enum.Enum) else value for value in arguments]
        return _enum(values)
    if origin in (typing.Union, types.UnionType):
        parts = [part(one) for one in arguments]
        if all(set(one) == {"type"} for one in parts):
            return {"type": [one["type"] for one in parts]}
        return {"anyOf": parts}
    return None


def _note(note: Any) -> str:
    """A description: text, or what has one (as Pydantic's Field)."""
    text = note if isinstance(note, str) else getattr(note, "description", None)
    return text if isinstance(text, str) else ""


def _container(kind: Any, arguments: tuple[Any, ...], part: Callable[..., Schema]) -> Schema | None:
    """Of lists, sets, tuples and mappings."""
    if not isinstance(kind, type) or issubclass(kind, (str, bytes, enum.Enum)) or typing.is_typeddict(kind):
        return None
    if issubclass(kind, Mapping):
        if arguments and arguments[0] is not str:
            return None
        return {"type": "object", **({"additionalProperties": part(arguments[1])} if arguments else {})}
    if issubclass(kind, tuple) and arguments and arguments[-1] is not Ellipsis:
        parts = [part(one) for one in arguments]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if issubclass(kind, Collection) and not hasattr(kind, "_fields"):
        return {"type": "array", **({"items": part(arguments[0])} if arguments else {})}
    return None


def _class(kind: type, part: Callable[..., Schema], definitions: dict[str, Any]) -> Schema | None:
    """Of enums, dataclasses, TypedDicts and Pydantic models."""
    if issubclass(kind, enum.Enum):
        return _enum([member.value for member in kind])
    if hasattr(kind, "model_json_schema"):
        schema = dict(kind.model_json_schema())
        definitions.update(schema.pop("$defs", {}))
        return schema
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        fields = [field for field in dataclasses.fields(kind) if field.init]
        required = [field.name for field in fields if _is_required(field)]
        return _object({field.name: part(hints[field.name], kind) for field in fields}, required)
    if typing.is_typeddict(kind):
        hints = _hints(kind)
        needed: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
        # where annotations are text, Python does not see NotRequired in them
        required = [
            name for name, hint in hints.items() if name in needed and typing.get_origin(hint) is not typing.NotRequired
        ]
        return _object({name: part(_bare(hint), kind) for name, hint in hints.items()}, required)
    return None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _bare(hint: Any) -> Any:
    """Without Required and NotRequired."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) in (typing.Required, typing.NotRequired) else hint


def _enum(values: list[Any]) -> Schema:
    return {"type": "string", "enum": values} if all(isinstance(value, str) for value in values) else {"enum": values}


def _object(properties: dict[str, Any], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _parameters(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Raises UsageError for one that cannot be given by name."""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise UsageError(
                f"the parameter {parameter.name} of {function.__name__} cannot be given by name",
                hint="wrap the function in one with named parameters",
            )
        yield parameter


def _hints(owner: Any) -> dict[str, Any]:
    """Raises UsageError for a name in a hint that does not exist."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except NameError as error:
        raise UsageError(f"a type hint of {owner.__name__} cannot be read: {error}") from error


def as_hinted(value: Any, hint: Any) -> Any:
    """A JSON value as what `hint` says. Raises ValueError, TypeError for one that does not fit."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return as_hinted(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _as_one_of(value, arguments)
    if origin is typing.Literal:
        return _as_literal(value, arguments)
    if hint in _PLAIN:
        return _as_plain(value, hint)
    kind = origin or hint
    if not isinstance(kind, type) or hint is Any:
        return value
    return _as_class(value, kind, arguments)


def _as_plain(value: Any, hint: Any) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} is no {_PLAIN[hint]}")
    return value


def _as_one_of(value: Any, hints: tuple[Any, ...]) -> Any:
    for hint in hints:
        try:
            return as_hinted(value, hint)
        except (ValueError, TypeError):
            continue
    raise ValueError(f"{value!r} is none of the allowed types")


def _as_literal(value: Any, allowed: tuple[Any, ...]) -> Any:
    for one in allowed:
        given = one.value if isinstance(one, enum.Enum) else one
        if given == value and isinstance(given, bool) == isinstance(value, bool):
            return one
    raise ValueError(f"{value!r} is none of the allowed values")


def _as_class(value: Any, kind: type, arguments: tuple[Any, ...]) -> Any:
    if issubclass(kind, enum.Enum):
        return kind(value)
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        hints = _hints(kind)
        return kind(**{name: as_hinted(one, hints[name]) for name, one in _mapping(value).items()})
    if issubclass(kind, Mapping):
        inner = arguments[1] if arguments else Any
        return {name: as_hinted(one, inner) for name, one in _mapping(value).items()}
    return _as_collection(value, kind, arguments)


def _as_collection(value: Any, kind: type, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no array")
    if issubclass(kind, tuple) and arguments and arguments[-1] is not Ellipsis:
        return tuple(as_hinted(one, hint) for one, hint in zip(value, arguments, strict=True))
    items = [as_hinted(one, arguments[0] if arguments else Any) for one in value]
    return kind(items) if kind in (set, frozenset, tuple) else items


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no object")
    return value
