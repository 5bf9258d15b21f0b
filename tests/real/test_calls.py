"""Tool calls of a real model, which has no form of its own for them: it calls rightly where it must."""

from __future__ import annotations

import json
from typing import Literal

import jsonschema
import pytest

from lmsupply_cli import TextGenerator, ToolSpec

WEATHER = [{"role": "user", "content": "What is the weather in Rome?"}]
SUM = [{"role": "user", "content": "What is 12 plus 30?"}]


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> str:
    """Get the current weather in a city.

    Args:
        city: the city, such as Paris
    """
    return f"{city}: 21 degrees {unit}, sunny"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOLS = [get_weather, add]


def test_a_required_call_is_the_right_one(model: TextGenerator) -> None:
    answer = model.generate_chat(WEATHER, tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert [(call.name, call.values["city"]) for call in answer.tool_calls] == [("get_weather", "Rome")]
    answer = model.generate_chat(SUM, tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert [(call.name, call.values) for call in answer.tool_calls] == [("add", {"a": 12, "b": 30})]
    assert answer.finish_reason == "tool_calls"


def test_an_answer_without_a_call_is_text(model: TextGenerator) -> None:
    question = [{"role": "user", "content": "Who wrote Hamlet?"}]
    answer = model.generate_chat(question, tools=TOOLS, tool_choice="none")
    assert "Shakespeare" in answer.text
    assert not answer.tool_calls
    assert "Shakespeare" in model.generate_chat(question, tools=TOOLS).text


@pytest.mark.parametrize("seed", range(4))
def test_what_is_sampled_is_a_valid_call(model: TextGenerator, seed: int) -> None:
    """At a temperature at which free text is noise."""
    tool = ToolSpec("book", "Book a table.", {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "guests": {"type": "integer"},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["name", "guests", "day"],
    })  # fmt: skip
    answer = model.generate_chat(
        [{"role": "user", "content": "A table for Ann."}], tools=[tool], tool_choice="book",
        temperature=2.5, top_k=0, top_p=1.0, seed=seed, max_tokens=200,
    )  # fmt: skip
    (call,) = answer.tool_calls
    jsonschema.validate(json.loads(call.arguments), tool.parameters)


def test_a_run_ends(model: TextGenerator) -> None:
    run = model.run_tools(SUM, [add], tool_choice="add", max_rounds=3)
    assert next(message.content for message in run.messages if message.role == "tool") == "42"
    assert len(run.completions) <= 3
    assert (run.stopped_by == "max_rounds") == bool(run.completion.tool_calls)
