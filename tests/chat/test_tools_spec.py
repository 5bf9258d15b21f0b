"""A tool from a function, a Pydantic model or a dict, and the wish for a call."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import pytest

from lmsupply_cli.chat.tools.signature import as_hinted, call_function, read_docstring
from lmsupply_cli.chat.tools.spec import MOST_CALLS, ToolRequest, ToolSpec
from lmsupply_cli.errors import UsageError


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@dataclass
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = field(default_factory=list)


class Person(TypedDict):
    name: str
    age: NotRequired[int]


class Model:
    """A model, as Pydantic makes one.

    More about it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def model_json_schema(cls) -> dict[str, Any]:
        inner = {"type": "object", "properties": {"z": {"type": "integer"}}, "required": ["z"]}
        return {"type": "object", "properties": {"inner": {"$ref": "#/$defs/Inner"}}, "$defs": {"Inner": inner}}

    @classmethod
    def model_validate(cls, value: Any) -> Model:
        return cls(value)


@dataclass
class Tree:
    left: Optional[Tree] = None  # noqa: UP045


class Note:
    description = "how far"


def everything(
    a: int,
    b: float,
    c: str,
    d: bool,
    e: Literal["x", "y"],
    f: Color,
    g: Size,
    h: list[int],
    i: dict[str, float],
    j: str | None,
    k: Point,
    l: Person,  # noqa: E741
    m: tuple[int, str],
    n: set[str],
    o: Annotated[int, Note()],
    p: Any,
    q: Model,
    r: int | list[int] = 1,
    s: Sequence[Color] = (),
    t: Literal[1, True, None] = None,
    u: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Take all there is.

    Args:
        a: the first
            of many
        b (float): the second: here
        nothing: of the kind

    Returns:
        c: what was given
    """
    return dict(locals())


def test_the_schema_of_a_function() -> None:
    tool = ToolSpec.of(everything)
    assert (tool.name, tool.description) == ("everything", "Take all there is.")
    schema = dict(tool.parameters)
    assert schema["required"] == list("abcdefghijklmnopq")
    person = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    tags = {"type": "array", "items": {"type": "string"}}
    point = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}, "tags": tags}}
    assert schema["properties"] == {
        "a": {"type": "integer", "description": "the first of many"},
        "b": {"type": "number", "description": "the second: here"},
        "c": {"type": "string"},
        "d": {"type": "boolean"},
        "e": {"type": "string", "enum": ["x", "y"]},
        "f": {"type": "string", "enum": ["red", "green"]},
        "g": {"enum": [1, 2]},
        "h": {"type": "array", "items": {"type": "integer"}},
        "i": {"type": "object", "additionalProperties": {"type": "number"}},
        "j": {"type": ["string", "null"]},
        "k": point | {"required": ["x"]},
        "l": person | {"required": ["name"]},
        "m": {
            "type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2,
        },
        "n": {"type": "array", "items": {"type": "string"}},
        "o": {"type": "integer", "description": "how far"},
        "p": {},
        "q": {"type": "object", "properties": {"inner": {"$ref": "#/$defs/Inner"}}},
        "r": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
        "s": {"type": "array", "items": {"type": "string", "enum": ["red", "green"]}},
        "t": {"enum": [1, True, None]},
        "u": {"anyOf": [{"type": "object", "additionalProperties": {}}, {"type": "null"}]},
    }  # fmt: skip
    assert list(schema["$defs"]) == ["Inner"]


def test_a_function_is_given_what_its_hints_say() -> None:
    values: dict[str, Any] = {
        "a": 1.0, "b": 2, "c": "s", "d": True, "e": "y", "f": "red", "g": 2, "h": [1], "i": {"u": 1}, "j": None,
        "k": {"x": 1}, "l": {"name": "Ann"}, "m": [1, "b"], "n": ["a", "a"], "o": 3, "p": [{}], "q": {"inner": {"z": 1}},
        "r": [4], "s": ["green"], "t": True, "u": {"v": [None]},
    }  # fmt: skip
    found = call_function(everything, values)
    assert (found["a"], type(found["a"])) == (1, int)
    assert type(found["b"]) is type(found["i"]["u"]) is type(found["k"].x) is float
    assert (found["f"], found["g"], found["s"]) == (Color.RED, Size.LARGE, [Color.GREEN])
    assert (found["k"], found["l"], found["m"], found["n"]) == (Point(1.0), {"name": "Ann"}, (1, "b"), {"a"})
    assert found["q"].value == {"inner": {"z": 1}}
    assert (found["r"], found["t"]) == ([4], True)


@pytest.mark.parametrize(
    ("value", "hint"),
    [(True, int), ("1", int), (1.5, int), (1, str), ("x", Literal["y"]), ("blue", Color), (1, list[int]), ([1], dict),
     ([1], tuple[int, int]), ("x", int | None)],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused(value: Any, hint: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        as_hinted(value, hint)


def test_sphinx_parameters_and_no_docstring() -> None:
    assert read_docstring("Add.\n\n:param int a: the first\n:param b: the second\n") == (
        "Add.", {"a": "the first", "b": "the second"},
    )  # fmt: skip
    assert read_docstring("") == ("", {})


class Adder:
    def add(self, a: int) -> int:
        return a


def test_a_method_has_no_self() -> None:
    assert ToolSpec.of(Adder().add).parameters == {
        "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
    }  # fmt: skip


def untyped(a) -> None:  # type: ignore[no-untyped-def]
    pass


def positional(a: int, /) -> None:
    pass


def starred(*a: int) -> None:
    pass


def odd(a: bytes) -> None:
    pass


def keyed(a: dict[int, str]) -> None:
    pass


def endless(a: Tree) -> None:
    pass


def unnamed(a: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (untyped, "the parameter a of untyped has no type hint"),
        (positional, "cannot be given by name"),
        (starred, "cannot be given by name"),
        (odd, "has no JSON form"),
        (keyed, "has no JSON form"),
        (endless, "Tree contains itself"),
        (unnamed, "cannot be read: name 'Nowhere'"),
        (int, "is no tool"),
        (3, "is no tool"),
        ({"name": "a b"}, "is no name of a tool"),
        ({}, "is no name of a tool"),
        ({"name": "a", "parameter": {}}, "no key 'parameter'"),
        ({"name": "a", "parameters": {}, "inputSchema": {}}, "two schemas"),
        ({"name": "a", "parameters": {"type": "array"}}, "must be an object"),
        ({"name": "a", "parameters": []}, "must be a JSON schema"),
        ({"name": "a", "parameters": {"x": {1}}}, "are no JSON"),
        ({"name": "a", "description": 3}, "must be text"),
        ({"type": "web_search", "name": "a"}, "type 'web_search' is not supported"),
        ({"type": "function", "function": {"name": "a"}, "strict": True}, "is no tool"),
    ],
)
def test_what_is_no_tool(tool: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ToolSpec.of(tool)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    "row",
    [
        {"name": "add", "description": "Add.", "parameters": SCHEMA},
        {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": SCHEMA, "strict": True}},
        {"type": "function", "name": "add", "description": "Add.", "parameters": SCHEMA, "strict": None},
        {"type": "custom", "name": "add", "description": "Add.", "input_schema": SCHEMA},
        {"name": "add", "description": "Add.", "inputSchema": SCHEMA},
    ],
)
def test_the_forms_of_a_dict(row: dict[str, Any]) -> None:
    tool = ToolSpec.of(row)
    assert tool == ToolSpec("add", "Add.", SCHEMA)
    assert ToolSpec.of(tool.as_dict()) == tool
    assert ToolSpec.of(tool) is tool


def test_a_model_of_pydantic() -> None:
    tool = ToolSpec.of(Model)
    assert (tool.name, tool.description, tool.function) == ("Model", "A model, as Pydantic makes one.", None)
    assert tool.parameters == Model.model_json_schema()


def test_a_tool_without_parameters() -> None:
    assert ToolSpec.of({"name": "now"}).parameters == {"type": "object", "properties": {}}


def test_a_wish() -> None:
    tools = [{"name": "add"}, {"name": "now"}]
    auto = ToolRequest.of(tools)
    assert (len(auto.shown), len(auto.callable), auto.must_call, auto.most_calls) == (2, 2, False, MOST_CALLS)
    required = ToolRequest.of(tools, "required", parallel=False)
    assert (len(required.callable), required.must_call, required.most_calls) == (2, True, 1)
    for choice in ("now", {"type": "function", "function": {"name": "now"}}, {"type": "tool", "name": "now"}):
        named = ToolRequest.of(tools, choice)
        assert [tool.name for tool in named.callable] == ["now"]
        assert (len(named.shown), named.must_call, named.most_calls) == (2, True, 1)
    none = ToolRequest.of(tools, "none")
    assert (none.shown, none.callable, none.must_call) == ((), (), False)
    word = ToolRequest.of([{"name": "none"}], {"name": "none"})
    assert (len(word.shown), word.must_call) == (1, True)


@pytest.mark.parametrize(
    ("tools", "choice", "text"),
    [
        ([{"name": "add"}, {"name": "add"}], "auto", "two tools are named add"),
        ([{"name": "add"}], "ad", "no tool 'ad'"),
        ([{"name": "add"}], {"name": "auto"}, "no tool 'auto'"),
        ([], "required", "needs a tool"),
        ([], "add", "no tool 'add'"),
        ([{"name": "add"}], 3, "must be auto, required, none"),
        ([{"name": "add"}], {"type": "any"}, "must be auto, required, none"),
        ("add", "auto", "must be a list of tools"),
        ({"name": "add"}, "auto", "must be a list of tools"),
        (3, "auto", "must be a list of tools"),
    ],
)
def test_a_wish_that_cannot_be(tools: Any, choice: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ToolRequest.of(tools, choice)
