"""Tools whose schema cannot be enforced as it stands: strict ones are refused, the others are called all the same."""

from __future__ import annotations

from typing import Any

import pytest

from lmsupply_cli.chat.tools.spec import ToolSpec
from lmsupply_cli.engine.matcher import matches
from lmsupply_cli.errors import UsageError
from lmsupply_cli.generation.tools import arguments_guidance

FETCH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "format": "uri"},
        "tags": {"type": "array", "uniqueItems": True, "items": {"type": "string", "not": {"const": "x"}}},
        "depth": {"type": "integer", "minimum": 1},
    },
    "required": ["url"],
    "if": {"required": ["depth"]},
    "then": {"required": ["tags"]},
}


def tool(schema: dict[str, Any], *, strict: bool) -> ToolSpec:
    return ToolSpec.of({"name": "fetch", "parameters": schema, "strict": strict})


def test_a_strict_tool_is_refused() -> None:
    with pytest.raises(UsageError, match="parameters of the tool fetch"):
        arguments_guidance(tool(FETCH, strict=True))
    assert ToolSpec.of({"name": "fetch", "parameters": FETCH}).strict


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        ('{"url": "http://x", "tags": ["x"], "depth": 1}', True),
        ('{"url": "http://x", "depth": 0}', False),
        ('{"tags": []}', False),
        ('{"url": 5}', False),
        ('{"url": "", "more": 1}', False),
    ],
)
def test_what_can_be_enforced_is(arguments: str, accepted: bool) -> None:
    assert matches(arguments_guidance(tool(FETCH, strict=False)), arguments) is accepted


def test_patterns_are_left_out_where_they_cannot_be_followed() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)y"}}, "required": ["a"]}
    guidance = arguments_guidance(tool(schema, strict=False))
    assert matches(guidance, '{"a": "z"}')
    assert not matches(guidance, "{}")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "minProperties": 2, "maxProperties": 1},
    ],
)
def test_at_the_least_the_arguments_are_an_object(schema: dict[str, Any]) -> None:
    assert matches(arguments_guidance(tool(schema, strict=False)), '{"b": 1}')


def test_a_schema_that_is_supported_holds_whole() -> None:
    schema = {"type": "object", "properties": {"a": {"pattern": "x+", "type": "string"}}, "required": ["a"]}
    assert arguments_guidance(tool(schema, strict=False)) == arguments_guidance(tool(schema, strict=True))
