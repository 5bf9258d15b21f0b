"""A schema is followed as a whole or refused: which keywords are taken, and which numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lmsupply_cli.engine.fake import FakeModel
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.errors import UsageError

UNSUPPORTED = {
    "not": {"type": "null"}, "if": {}, "then": {}, "else": {}, "contains": {}, "minContains": 1, "maxContains": 2,
    "uniqueItems": True, "propertyNames": {"pattern": "a"}, "dependentRequired": {"a": ["b"]},
    "dependentSchemas": {"a": {}}, "dependencies": {"a": ["b"]}, "unevaluatedProperties": False,
    "unevaluatedItems": False, "nullable": True, "$dynamicRef": "#a", "$recursiveRef": "#", "divisibleBy": 2,
    "extends": {}, "disallow": "null", "maxLenght": 3,
}  # fmt: skip
SAYS_NOTHING = {
    "uniqueItems": False, "nullable": False, "unevaluatedProperties": True, "unevaluatedItems": True,
    "propertyNames": True, "dependentRequired": {}, "dependentSchemas": {}, "dependencies": {}, "not": False,
}  # fmt: skip
ANNOTATIONS = {
    "title": "t", "description": "d", "default": 1, "examples": [1], "deprecated": True, "readOnly": True,
    "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "$comment": "c", "x-anything": {"a": 1},
}  # fmt: skip


@pytest.mark.parametrize(("keyword", "value"), UNSUPPORTED.items())
@pytest.mark.parametrize("inside", [False, True])
def test_a_keyword_that_is_on_no_list_is_refused_by_name(keyword: str, value: Any, inside: bool) -> None:
    schema: Any = {"type": "string", keyword: value}
    if inside:
        schema = {"type": "object", "properties": {"a": {"type": "array", "items": schema}}}
    with pytest.raises(UsageError, match=f"uses the keyword '{keyword.replace('$', '[$]')}', which is not") as caught:
        Guidance.json_schema(schema)
    assert caught.value.hint
    assert caught.value.message.startswith("properties.a.items" if inside else "the schema")


def test_a_misspelt_keyword_gets_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        Guidance.json_schema({"type": "string", "maxLenght": 3})
    assert caught.value.hint == "did you mean maxLength?"


@pytest.mark.parametrize(("keyword", "value"), SAYS_NOTHING.items())
def test_a_keyword_whose_value_asks_nothing_is_left_out(keyword: str, value: Any) -> None:
    schema = {"type": "array", "items": {"type": "boolean", keyword: value}, keyword: value}
    guidance = Guidance.json_schema(schema)
    check_guidance(guidance)
    assert f'"{keyword}"' not in guidance.text
    matcher = FakeModel().new_matcher(guidance)
    assert matcher.accepts("[true,true]")
    assert not matcher.accepts("[1]")


@pytest.mark.parametrize(("keyword", "value"), ANNOTATIONS.items())
def test_annotations_change_nothing(keyword: str, value: Any) -> None:
    guidance = Guidance.json_schema({"type": "boolean", keyword: value})
    check_guidance(guidance)
    matcher = FakeModel().new_matcher(guidance)
    assert matcher.accepts("true")
    assert not matcher.accepts("1")


def test_a_property_may_have_the_name_of_any_keyword() -> None:
    names = [*UNSUPPORTED, *SAYS_NOTHING]
    guidance = Guidance.json_schema(
        {"type": "object", "properties": {name: {"type": "null"} for name in names}, "required": names[:1]}
    )
    assert FakeModel().new_matcher(guidance).accepts(json.dumps({names[0]: None}, separators=(",", ":")))


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**64, 10**30])
@pytest.mark.parametrize(
    "schema",
    [
        lambda n: {"const": n},
        lambda n: {"enum": [1, n]},
        lambda n: {"enum": [{"a": [n]}]},
        lambda n: {"type": "integer", "minimum": n},
        lambda n: {"type": "integer", "exclusiveMaximum": n},
        lambda n: {"type": "integer", "multipleOf": n},
        lambda n: {"type": "object", "properties": {"a": {"const": n}}},
    ],
)
def test_whole_numbers_that_are_not_exact_are_refused(number: int, schema: Any) -> None:
    with pytest.raises(UsageError, match=f"contains {number}, but integers beyond 2\\^53 are not exact"):
        Guidance.json_schema(schema(number))


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**53 - 1, 0])
def test_whole_numbers_that_are_exact_come_out_as_they_are(number: int) -> None:
    guidance = Guidance.json_schema({"const": number})
    matcher = FakeModel().new_matcher(guidance)
    assert matcher.accepts(str(number))
    assert not matcher.accepts(str(number + 1))
    bounded = FakeModel().new_matcher(Guidance.json_schema({"type": "integer", "minimum": number, "maximum": number}))
    assert bounded.accepts(str(number))
    assert not bounded.accepts(str(number - 1))


def test_a_large_number_elsewhere_is_no_number_of_the_schema() -> None:
    guidance = Guidance.json_schema({"type": "boolean", "default": 2**70, "examples": [10**40]})
    check_guidance(guidance)
