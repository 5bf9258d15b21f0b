"""Guidance from the fields of a request."""

from __future__ import annotations

from typing import Any

from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import UsageError
from lmsupply_cli.server.errors import as_api_error


def json_object() -> Guidance:
    """Any JSON object."""
    return Guidance.json_schema({"type": "object"})


def json_schema(schema: Any, *, param: str) -> Guidance:
    """Raises ApiError that names the field for a schema that is not supported."""
    try:
        return Guidance.json_schema(schema)
    except UsageError as error:
        raise as_api_error(error, param=param) from error
