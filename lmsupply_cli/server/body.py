"""Request bodies: every field is checked, enforced, documented as having no effect, or refused by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    GetJsonSchemaHandler,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from lmsupply_cli.errors import did_you_mean
from lmsupply_cli.server.errors import ApiError, bad_field
from lmsupply_cli.units import cut

MOST_MESSAGES, MOST_TOOLS, MOST_STOPS = 10_000, 1_000, 64
_MOST_OF_A_NAME = 100  # characters in an error
_NO_FIELD = "\0"  # begins a step of a path that names no field


class Part(BaseModel):
    """A JSON object inside a body. Types are strict: "1" is no number. A field that is null counts as left out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    no_effect: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change an answer: accepted with any value."""

    unsupported: ClassVar[dict[str, str]] = {}
    """Fields that would change the answer, and why they are refused. A value that asks for nothing is accepted."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Fields without effect are part of the form, with any value."""
        found = handler.resolve_ref_schema(handler(schema))
        any_value = {"description": "has no effect"}
        found["properties"] = found.get("properties", {}) | dict.fromkeys(sorted(cls.no_effect), any_value)
        return found

    @model_validator(mode="before")
    @classmethod
    def _only_what_counts(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        kept = {name: value for name, value in values.items() if value is not None and name not in cls.no_effect}
        for name, reason in cls.unsupported.items():
            if name in kept and not asks_nothing(kept.pop(name)):
                raise unsupported(name, f"{name} is not supported: {reason}")
        return kept


class Body(Part):
    """The JSON object of a request."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Raises ApiError 400 that names the field."""
        return cls.of(cls.parse(data))

    @staticmethod
    def parse(data: bytes) -> dict[str, Any]:
        """The JSON object. Raises ApiError."""
        try:
            values = json.loads(data, parse_constant=_no_number, object_pairs_hook=_each_once)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"the body is not valid JSON: {cut(str(error), 200)}", "invalid_json") from error
        if not isinstance(values, dict):
            raise ApiError(400, "the body must be a JSON object", "invalid_json")
        return values

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """From values that are parsed already."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _named(error.errors(include_url=False)[0], cls) from error
        except RecursionError as error:
            raise ApiError(400, "the body is nested too deeply", "invalid_json") from error


class Form(Tag):
    """One form of a value that has several, such as a string or a list: `Annotated[str, Form("string")]`. Unlike a plain
    Tag, it is not part of the path of an error."""

    def __init__(self, name: str) -> None:
        super().__init__(_NO_FIELD + name)


def told_by(form: Callable[[Any], str | None], expected: str) -> Discriminator:
    """`form` names the Form of a value; `expected`: what a value must be, for the error."""
    return Discriminator(
        lambda value: _NO_FIELD + (form(value) or ""),
        custom_error_type="wrong_form",
        custom_error_message=f"must be {expected}",
    )


def told_by_type(*types: str, default: str = "", alike: Mapping[str, str] = MappingProxyType({})) -> Discriminator:
    """Objects whose Form is their `type`; `default`: of one without; `alike`: other types that a Form takes."""

    def form(value: Any) -> str | None:
        kind = value.get("type") or default if isinstance(value, dict) else getattr(value, "type", None)
        return _NO_FIELD + alike.get(kind, kind) if isinstance(kind, str) else None

    return Discriminator(
        form,
        custom_error_type="unknown_type",
        custom_error_message=f"must be an object with a type: {', '.join(types)}",
    )


def string_or_list(value: Any) -> str | None:
    """For `told_by`: the forms `string` and `list`."""
    return "string" if isinstance(value, str) else "list" if isinstance(value, list) else None


def refuses(reasons: Mapping[str, str]) -> BeforeValidator:
    """Objects whose `type` is known, and why they are not supported."""

    def check(value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind in reasons:
            raise unsupported("type", f"{kind} is not supported: {reasons[kind]}")
        return value

    return BeforeValidator(check)


def unsupported(field: str, message: str) -> PydanticCustomError:
    """For validators: a field of this object asks for what is not supported."""
    return PydanticCustomError("unsupported_parameter", "{message}", {"message": message, "field": field})


def asks_nothing(value: Any) -> bool:
    """Whether the value of an unsupported field leaves the answer as it is."""
    return value is None or value is False or value in ({}, [], "")


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not valid JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two fields of one name, nobody knows which is meant."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(name for name, many in Counter(name for name, _ in pairs).items() if many > 1)
        raise ValueError(f"the field {twice[:40]!r} is there twice")
    return values


def path_of(location: tuple[int | str, ...]) -> str:
    """`("messages", 0, "content")` as `messages[0].content`."""
    text = ""
    for step in location:
        if isinstance(step, str) and step.startswith(_NO_FIELD):
            continue
        step = step if isinstance(step, int) else cut(step, _MOST_OF_A_NAME)
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _named(problem: ErrorDetails, body: type[Body]) -> ApiError:
    if problem["type"] == "unsupported_parameter":
        param = path_of((*problem["loc"], problem["ctx"]["field"]))
        return bad_field(param, problem["msg"], code="unsupported_parameter")
    param = path_of(problem["loc"])
    if problem["type"] == "unknown_type" and isinstance(problem["input"], dict):
        param = path_of((*problem["loc"], "type"))
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(param, body.model_fields, "", cutoff=0.75) if len(problem["loc"]) == 1 else ""
        text = f"unknown field {param}" + (f" ({hint})" if hint else "")
        return bad_field(param, text, code="unknown_parameter")
    if problem["type"] == "missing":
        return bad_field(param, f"{param} is missing", code="missing_required_parameter")
    message = problem["msg"].removeprefix("Value error, ")
    return bad_field(param, f"{param}: {message[:1].lower()}{message[1:]}")
