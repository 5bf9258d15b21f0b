"""Bodies: forms, nested fields, and the path of what is wrong."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

import pytest

from lmsupply_cli.server.body import Body, Form, Part, refuses, string_or_list, told_by, told_by_type
from lmsupply_cli.server.errors import ApiError


class Text(Part):
    type: Literal["text"]
    text: str
    no_effect: ClassVar[frozenset[str]] = frozenset({"cache"})
    unsupported: ClassVar[dict[str, str]] = {"citations": "there are none"}


class Number(Part):
    type: Literal["number"] = "number"
    number: int


Piece = Annotated[
    Annotated[Text, Form("text")] | Annotated[Number, Form("number")],
    told_by_type("text", "number", default="number"),
    refuses({"image": "models read text"}),
]
Content = Annotated[
    Annotated[str, Form("string")] | Annotated[list[Piece], Form("list")],
    told_by(string_or_list, "a string or a list of parts"),
]


class Whole(Body):
    content: Content
    limit: int | None = None


def test_forms_are_read() -> None:
    assert Whole.of({"content": "x"}).content == "x"
    read = Whole.of({"content": [{"type": "text", "text": "a", "cache": 5, "citations": []}, {"number": 4}]})
    assert read.content == [Text(type="text", text="a"), Number(number=4)]


def test_null_counts_as_left_out_at_any_depth() -> None:
    read = Whole.of({"content": [{"type": None, "number": 4}], "limit": None})
    assert read.content == [Number(number=4)]
    assert read.limit is None


@pytest.mark.parametrize(
    ("body", "param", "code", "words"),
    [
        ({}, "content", "missing_required_parameter", "content is missing"),
        ({"content": 5}, "content", "invalid_value", "must be a string or a list of parts"),
        ({"content": [5]}, "content[0]", "invalid_value", "must be an object with a type: text, number"),
        ({"content": [{"type": "audio"}]}, "content[0].type", "invalid_value", "type: text, number"),
        ({"content": [{"type": "image"}]}, "content[0].type", "unsupported_parameter", "models read text"),
        ({"content": [{"type": "text"}]}, "content[0].text", "missing_required_parameter", "is missing"),
        ({"content": [{"type": "text", "text": 5}]}, "content[0].text", "invalid_value", "valid string"),
        (
            {"content": [{"number": 1}, {"type": "text", "text": "", "citations": [1]}]},
            "content[1].citations",
            "unsupported_parameter",
            "there are none",
        ),
        ({"content": [{"number": "1"}]}, "content[0].number", "invalid_value", "valid integer"),
        ({"content": [{"number": 1, "x": 1}]}, "content[0].x", "unknown_parameter", "unknown field content[0].x"),
        ({"content": "", "limits": 1}, "limits", "unknown_parameter", "did you mean limit?"),
    ],
)
def test_what_is_wrong_is_named(body: dict[str, Any], param: str, code: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        Whole.read(json.dumps(body).encode())
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    assert words in caught.value.message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"x"', b'{"content": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object(data: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        Whole.read(data)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
