"""What is known of a guidance before any model is: its size, its depth, and whether an answer can end."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli.engine.fake import FakeModel
from lmsupply_cli.engine.finite import has_instance
from lmsupply_cli.engine.guidance import Guidance, grammar_of, schema_of
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.errors import UsageError

SELF = {"$ref": "#"}


def needs(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    "schema",
    [
        SELF,
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        needs(a=SELF),
        needs(a={"type": "string"}, b={"type": "array", "items": SELF, "minItems": 1}),
        needs(a={"anyOf": [SELF, needs(b=SELF)]}),
        needs(a={"allOf": [{"type": "object"}, SELF]}),
        {"type": "object", "required": ["a"], "additionalProperties": SELF},
        {"type": "array", "prefixItems": [True, SELF], "minItems": 2},
        {"type": ["object", "array"], **needs(a=SELF), "items": SELF, "minItems": 1} | {"type": ["object", "array"]},
        {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": needs(x={"$ref": "#/$defs/a~1b%20c"})}},
    ],
)
def test_a_schema_that_requires_itself_without_end_cannot_be_satisfied(schema: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no answer can satisfy the schema"):
        Guidance.json_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "object", "properties": {"a": SELF}},
        needs(a={"type": "array", "items": SELF}),
        needs(a={"anyOf": [SELF, {"type": "null"}]}),
        needs(a={"type": ["object", "null"], **{k: v for k, v in needs(b=SELF).items() if k != "type"}}),
        {"type": "array", "prefixItems": [True, SELF], "minItems": 1},
        {"type": "object", "required": ["a"], "patternProperties": {"^a": {"type": "string"}}},
        {
            "$ref": "#/$defs/list",
            "$defs": {"list": {"anyOf": [{"type": "null"}, needs(next={"$ref": "#/$defs/list"})]}},
        },
        {"$ref": "#/$defs/unknown"},
        {"type": "object", "required": [["x"], None], "properties": []},
    ],
)
def test_a_schema_with_a_way_out_can(schema: Any) -> None:
    assert has_instance({"anyOf": [schema]} if schema is True else schema)


def test_a_long_chain_of_references_is_decided_at_once() -> None:
    names = range(5000)
    chain = {f"d{i}": needs(a={"$ref": f"#/$defs/d{i + 1}"}) for i in names}
    schema = {"$ref": "#/$defs/d0", "$defs": chain}
    assert has_instance({**schema, "$defs": chain | {"d5000": {"type": "null"}}})
    assert not has_instance({**schema, "$defs": chain | {"d5000": {"$ref": "#/$defs/d0"}}})


def test_a_schema_of_any_depth_is_one_line() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"type": "array", "items": deep}
    for schema in ('{"type":"array","items":' * 5000 + "{}" + "}" * 5000, deep):
        with pytest.raises(UsageError, match="nested too deeply"):
            Guidance.json_schema(schema)


@pytest.mark.parametrize("schema", [{"enum": [{1, 2}]}, {"const": float("nan")}, {"enum": [object()]}])
def test_a_schema_of_other_things_than_json_is_said(schema: Any) -> None:
    with pytest.raises(UsageError, match="is not valid JSON"):
        Guidance.json_schema(schema)


def test_an_absurd_size_is_refused(tmp_path: Path) -> None:
    long = "a" * 1_000_001
    for make in (Guidance.regex, Guidance.grammar, Guidance.json_schema):
        with pytest.raises(UsageError, match="1,000,001 characters, the most is 1,000,000"):
            make(long)
    (tmp_path / "long").write_text("start" + "a" * 4_000_000)
    with pytest.raises(UsageError, match=r"cannot read the grammar: .*larger than"):
        grammar_of(str(tmp_path / "long"))


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xff")
    for name in ("bytes", "missing", "."):
        with pytest.raises(UsageError, match="cannot read the schema"):
            schema_of(str(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe")
def test_a_schema_may_come_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=('\ufeff{"type": "null"}',))
    writer.start()
    assert json.loads(schema_of(str(tmp_path / "pipe")).text)["type"] == "null"
    writer.join()


@pytest.mark.parametrize(
    ("guidance", "allows"),
    [
        (Guidance.regex("(yes)?"), True),
        (Guidance.regex("yes"), False),
        (Guidance.regex(r"\p{L}*"), True),
        (Guidance.regex(r"\p{L}+"), False),
        (Guidance.json(), False),
        (Guidance.grammar('start: "a"*'), True),
        (Guidance.grammar('start: "a"+'), False),
    ],
)
def test_an_empty_answer_is_complete_only_where_the_guidance_accepts_it(guidance: Guidance, allows: bool) -> None:
    matcher = FakeModel().new_matcher(guidance)
    assert (matcher.complete, matcher.accepts("")) == (allows, allows)
    assert matcher.allowed([258])[258] == allows


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "string", "minLength": 4, "maxLength": 3},
        {"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2},
        {"allOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}, "required": ["a"]},
    ],
)
def test_a_schema_that_nothing_satisfies_is_refused_without_a_model(schema: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        check_guidance(Guidance.json_schema(schema))
    assert "JSON schema cannot be followed" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("rule", ["start", 'start "a"', 'other\nother: start "a" | other'])
def test_a_grammar_that_leads_back_to_itself_without_an_end_is_refused(rule: str) -> None:
    with pytest.raises(UsageError, match="no answer can satisfy the grammar"):
        check_guidance(Guidance.grammar(f"start: {rule}"))
