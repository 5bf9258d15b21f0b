"""Request bodies: every field is checked, enforced, documented as having no effect, or refused by name."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from lmsupply_cli.errors import did_you_mean
from lmsupply_cli.server.errors import ApiError, bad_field


class Part(BaseModel):
    """A JSON object inside a body. Types are strict: "1" is no number. A field that is null counts as left out."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    no_effect: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change an answer: accepted with any value."""

    unsupported: ClassVar[dict[str, str]] = {}
    """Fields that would change the answer, and why they are refused. A value that asks for nothing is accepted."""


class Body(Part):
    """The JSON object of a request."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Raises ApiError 400 that names the field."""
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"the body is not valid JSON: {error}", "invalid_json") from error
        if not isinstance(values, dict):
            raise ApiError(400, "the body must be a JSON object", "invalid_json")
        return cls.of(values)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """From values that are parsed already."""
        kept = {name: value for name, value in values.items() if value is not None and name not in cls.no_effect}
        for name, reason in cls.unsupported.items():
            if name in kept and not asks_nothing(kept.pop(name)):
                raise bad_field(name, f"{name} is not supported: {reason}", code="unsupported_parameter")
        try:
            return cls.model_validate(kept)
        except ValidationError as error:
            raise _named(error.errors(include_url=False)[0], cls) from error
        except RecursionError as error:
            raise ApiError(400, "the body is nested too deeply", "invalid_json") from error


def asks_nothing(value: Any) -> bool:
    """Whether the value of an unsupported field leaves the answer as it is."""
    return value is None or value is False or value in ({}, [], "")


def path_of(location: tuple[int | str, ...]) -> str:
    """`("messages", 0, "content")` as `messages[0].content`."""
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _named(problem: ErrorDetails, body: type[Body]) -> ApiError:
    param = path_of(problem["loc"])
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(param, body.model_fields, "", cutoff=0.75) if len(problem["loc"]) == 1 else ""
        text = f"unknown field {param}" + (f" ({hint})" if hint else "")
        return bad_field(param, text, code="unknown_parameter")
    if problem["type"] == "missing":
        return bad_field(param, f"{param} is missing", code="missing_required_parameter")
    message = problem["msg"].removeprefix("Value error, ")
    return bad_field(param, f"{param}: {message[:1].lower()}{message[1:]}")
