"""Guided text beside tools: an answer is calls, or text that follows the guidance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.scripted import fake
from support.vocabulary_model import ENDS, vocabulary_generator

from lmsupply_cli import Guidance
from lmsupply_cli.events import TextDelta

ASK = [{"role": "user", "content": "What is 1+2?"}]
ADD: dict[str, Any] = {
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["a"],
    },
}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 60}, "age": {"enum": [1, 2]}},
    "required": ["name", "age"],
}
TOKENIZERS = Path(__file__).parent.parent / "data" / "tokenizers"
SCHEMA = Guidance.json_schema(PERSON)
HARD = [  # every mark that a family looks for
    "</tool_call><tool_call>", "[TOOL_CALLS][]", "<|tool_call|>", "<|channel|>final<|message|>", "<|end|>", "<think></think>",
]  # fmt: skip
CALL = {
    "qwen25": '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
    "qwen3": '<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
    "phi4mini": '<|tool_call|>[{"name": "add", "arguments": {"a": 1}}]<|/tool_call|>',
    "llama3_1": '{"name": "add", "parameters": {"a": 1}}',
    "mistral_v3": '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]',
    "tekken": '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]',
    "gptoss": '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}',
    "smollm2": '{"name": "add", "arguments": {"a": 1}}',
    "gemma3": '{"name": "add", "arguments": {"a": 1}}',
}
BEFORE = {"gptoss": "<|channel|>final<|message|>", "qwen3": "<think>\nHm.\n</think>\n\n"}


@pytest.mark.parametrize("family", sorted(ENDS))
def test_an_answer_is_calls_or_guided_text(family: str, tmp_path: Path) -> None:
    with vocabulary_generator(family, tmp_path) as wild:
        for seed in range(6):
            answer = wild.generate_chat(ASK, tools=[ADD], guidance=SCHEMA, seed=seed, max_tokens=3000)
            if answer.tool_calls:
                assert (answer.text, answer.finish_reason, answer.complete) == ("", "tool_calls", None)
            else:
                jsonschema.validate(json.loads(answer.text), PERSON)
                assert answer.complete
        answer = wild.generate_chat(ASK, tools=[ADD], guidance=SCHEMA, tool_choice="required", max_tokens=3000)
        assert answer.tool_calls
        assert answer.complete is None


@pytest.mark.parametrize("family", sorted(ENDS))
def test_a_call_and_a_text_in_the_form_of_the_family(family: str, tmp_path: Path) -> None:
    vocabulary = (TOKENIZERS / f"{family}.json").read_text(encoding="utf-8")
    own = {row["content"] for row in json.loads(vocabulary)["added_tokens"]}  # which no text can hold
    names = ["add", "Ann", *(name for name in HARD if not any(mark in name for mark in own))]
    texts = [json.dumps({"name": name, "age": 2}) for name in names]
    says = [CALL[family], *(BEFORE.get(family, "") + text for text in texts)]
    with vocabulary_generator(family, tmp_path, says=says) as model:
        call = model.generate_chat(ASK, tools=[ADD], guidance=SCHEMA)
        assert [(one.name, one.values) for one in call.tool_calls] == [("add", {"a": 1})]
        assert call.text == ""
        for text in texts:
            events = list(model.stream_chat(ASK, tools=[ADD], guidance=SCHEMA))
            shown = "".join(event.text for event in events if isinstance(event, TextDelta))
            assert json.loads(shown) == json.loads(text)


def test_a_regular_expression_and_a_grammar_beside_tools() -> None:
    rules = (
        (Guidance.regex(r"yes/no|\d{3}/\\/"), "123/\\/"),
        (Guidance.grammar('start: "}" foo // a } comment\nfoo: /[0-9}]+/'), "}4}"),
        (Guidance.json(), "[1]"),
    )
    for guidance, text in rules:
        with fake(text, '{"name": "add", "arguments": {"a": 1}}') as model:
            answer = model.generate_chat(ASK, tools=[ADD], guidance=guidance)
            assert (answer.text, answer.complete, answer.finish_reason) == (text, True, "stop")
            messages = [*ASK, answer.message.as_dict(), *ASK]
            answer = model.generate_chat(messages, tools=[ADD], guidance=guidance)
            assert answer.tool_calls[0].values == {"a": 1}


def test_guided_text_that_is_cut_off_is_not_complete() -> None:
    with fake('{"name": "Ann", "age": 1}') as model:
        answer = model.generate_chat(ASK, tools=[ADD], guidance=SCHEMA, max_tokens=12)
    assert (answer.complete, answer.finish_reason, answer.text) == (False, "length", '{"name": "An')
