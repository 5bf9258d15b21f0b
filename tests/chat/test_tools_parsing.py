"""What an answer holds does not depend on how its text was cut, and half a call is never text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.chat.tools.harmony import HarmonyParser
from lmsupply_cli.chat.tools.parsing import AfterThoughts, AnswerParser, JsonCalls, ObjectEnd, new_call_id
from lmsupply_cli.events import ReasoningDelta, TextDelta, ToolCall, ToolCallDelta

Read = tuple[str, str, list[tuple[str, dict[str, Any]]]]  # text, reasoning, calls

NASTY = [
    {"a": 1, "b": [1, {"c": None}], "d": -2.5e-3},
    {"text": 'a "quoted" \\ } ] { and </tool_call><|call|>[TOOL_CALLS]', "é": "日本\n\t"},
    {"<tool_call>": "</think>", "name": {"name": "x", "arguments": {}}},
    {},
]


def ids() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"call_{next(numbers)}"


def call(arguments: Any, name: str = "add", key: str = "arguments", more: str = "") -> str:
    return f'{{"name": "{name}", "{key}": {json.dumps(arguments, ensure_ascii=False)}{more}}}'


def hermes(found: list[Any]) -> str:
    return "\n".join(f"<tool_call>\n{call(one)}\n</tool_call>" for one in found)


def harmony(one: Any, header: str) -> str:
    return f"{header}<|message|>{json.dumps(one, ensure_ascii=False)}"


WITH_ID = ', "id": "abcdefghi"'
INSIDE = "<|channel|>commentary to=functions.add <|constrain|>json"
BEFORE = " to=functions.add<|channel|>commentary json"
THINK = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
ANSWERS: dict[str, tuple[Callable[[], AnswerParser], str, Read]] = {
    "hermes": (lambda: JsonCalls("<tool_call>", new_id=ids()), hermes(NASTY), ("", "", [("add", a) for a in NASTY])),
    "hermes, text first": (
        lambda: JsonCalls("<tool_call>", new_id=ids()), f"I < see.\n\n{hermes(NASTY[:1])}", ("I < see.", "", [("add", NASTY[0])]),
    ),
    "hermes, text only": (lambda: JsonCalls("<tool_call>"), "a <tool_cal {}\n\n", ("a <tool_cal {}\n\n", "", [])),
    "hermes, thought first": (
        lambda: AfterThoughts("start", JsonCalls("<tool_call>", new_id=ids())),
        f"<think>\nI </tool_call> add.\n</think>\n\n{hermes(NASTY)}",
        ("", "I </tool_call> add.", [("add", a) for a in NASTY]),
    ),
    "hermes, no thought": (
        lambda: AfterThoughts("start", JsonCalls("<tool_call>", new_id=ids())),
        hermes(NASTY[2:3]),
        ("", "", [("add", NASTY[2])]),
    ),
    "hermes, thought begun": (
        lambda: AfterThoughts("thinking", JsonCalls("<tool_call>", new_id=ids())),
        f"Hm.</think>Sum: {hermes(NASTY[:1])}",
        ("Sum:", "Hm.", [("add", NASTY[0])]),
    ),
    "phi4-mini": (
        lambda: JsonCalls("<|tool_call|>", new_id=ids()),
        f"<|tool_call|>[{', '.join(map(call, NASTY))}]<|/tool_call|>",
        ("", "", [("add", a) for a in NASTY]),
    ),
    "mistral": (
        lambda: JsonCalls("[TOOL_CALLS]", new_id=ids()),
        f"[TOOL_CALLS] [{', '.join(call(a, more=WITH_ID) for a in NASTY)}]",
        ("", "", [("add", a) for a in NASTY]),
    ),
    "llama": (
        lambda: JsonCalls("<|python_tag|>", bare=True, new_id=ids()),
        call(NASTY[1], key="parameters"),
        ("", "", [("add", NASTY[1])]),
    ),
    "llama, tag": (
        lambda: JsonCalls("<|python_tag|>", bare=True, new_id=ids()),
        "<|python_tag|>" + call(NASTY[1], key="parameters"),
        ("", "", [("add", NASTY[1])]),
    ),
    "llama, text": (
        lambda: JsonCalls("<|python_tag|>", bare=True), '{"nam": 1, "name": 2} ', ('{"nam": 1, "name": 2} ', "", []),
    ),
    "generic": (
        lambda: JsonCalls(bare=True, new_id=ids()), "\n".join(map(call, NASTY)), ("", "", [("add", a) for a in NASTY]),
    ),
    "generic, text": (lambda: JsonCalls(bare=True), ' { "na": 1}', (' { "na": 1}', "", [])),
    "harmony, call": (
        lambda: HarmonyParser(new_id=ids()), THINK + harmony(NASTY[1], INSIDE), ("", "Hm.", [("add", NASTY[1])]),
    ),
    "harmony, as the template": (
        lambda: HarmonyParser(new_id=ids()), THINK + harmony(NASTY[2], BEFORE), ("", "Hm.", [("add", NASTY[2])]),
    ),
    "harmony, remark": (
        lambda: HarmonyParser(new_id=ids()),
        "<|channel|>commentary<|message|>I add.<|end|><|start|>assistant" + harmony(NASTY[0], INSIDE) + "<|call|>",
        ("", "I add.", [("add", NASTY[0])]),
    ),
    "harmony, final": (
        HarmonyParser, THINK + "<|channel|>final<|message|>a < b<|", ("a < b<|", "Hm.", []),
    ),
}  # fmt: skip


def read(parser: AnswerParser, pieces: list[str]) -> Read:
    text, reasoning, calls, parts = "", "", list[tuple[str, dict[str, Any]]](), dict[int, str]()
    for event in itertools.chain(*(parser.push(piece) for piece in pieces), parser.flush()):
        match event:
            case TextDelta(piece):
                text += piece
            case ReasoningDelta(piece):
                reasoning += piece
            case ToolCallDelta(index, _, _, piece):
                assert index == len(calls)
                parts[index] = parts.get(index, "") + piece
            case ToolCall(_, name, arguments):
                assert parts[len(calls)] == arguments
                calls.append((name, json.loads(arguments)))
    return text, reasoning, calls


def cuts(text: str) -> Iterator[list[str]]:
    yield [text]
    yield list(text)
    yield from ([text[:at], text[at:]] for at in range(1, len(text)))


@pytest.mark.parametrize("name", ANSWERS)
def test_any_cut_gives_the_same(name: str) -> None:
    make, text, wanted = ANSWERS[name]
    for pieces in cuts(text):
        assert read(make(), pieces) == wanted, pieces


@given(st.data())
def test_many_cuts_give_the_same(data: st.DataObject) -> None:
    make, text, wanted = ANSWERS[data.draw(st.sampled_from(sorted(ANSWERS)))]
    places = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)))))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]
    assert read(make(), pieces) == wanted


@pytest.mark.parametrize("name", ANSWERS)
def test_half_a_call_is_never_text(name: str) -> None:
    make, text, (shown, _, calls) = ANSWERS[name]
    for at in range(len(text)):
        found, _, begun = read(make(), [text[:at]])
        assert begun == calls[: len(begun)]
        if calls:
            assert '"name"' not in found
            assert "arguments" not in found
            assert "to=functions" not in found
        if begun or not calls:
            assert shown.startswith(found)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=3), st.text(), st.integers(1, 5))
def test_the_end_of_any_object_is_found(value: dict[str, Any], after: str, size: int) -> None:
    text = json.dumps(value, ensure_ascii=False)
    end = ObjectEnd()
    assert end.find(text + after) == len(text)
    end = ObjectEnd()
    found = [end.find(text[at : at + size]) for at in range(0, len(text), size)]
    assert found[:-1] == [-1] * (len(found) - 1)
    assert found[-1] > 0


def test_ids_are_new() -> None:
    made = {new_call_id() for _ in range(100)}
    assert len(made) == 100
    assert all(one.startswith("call_") and len(one) == 14 and one[5:].isalnum() for one in made)
