"""Tiny models with random weights on the real engine: whatever they want, a required call is valid. Their context is
short, so the form is one with few words; their vocabularies lack its marks, which are then spelled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lmsupply_cli import TextGenerator, ToolCall, load

MODELS = Path(__file__).parent.parent / "models"
ASK = [{"role": "user", "content": "hi"}]
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Rom", "Ürz"]}, "days": {"type": "integer", "minimum": 1, "maximum": 14}},
    "required": ["city", "days"],
}
WEATHER = {"name": "sky", "parameters": PARAMETERS}
CLOCK = {"name": "now", "parameters": {"type": "object", "properties": {"utc": {"type": "boolean"}}}}


@pytest.fixture(scope="module", params=["qwen2", "llama", "phi3", "gemma2"])
def model(request: pytest.FixtureRequest) -> Iterator[TextGenerator]:
    with load(MODELS / request.param, chat_format="phi4-mini") as loaded:
        yield loaded


def test_a_required_call_is_valid(model: TextGenerator) -> None:
    seen = set()
    for seed in range(6):
        answer = model.generate_chat(
            ASK, tools=[WEATHER, CLOCK], tool_choice="required", seed=seed, temperature=2.0, top_p=1.0, top_k=0,
            max_tokens=300, parallel_tool_calls=False,
        )  # fmt: skip
        (call,) = answer.tool_calls
        assert (answer.finish_reason, answer.text) == ("tool_calls", "")
        jsonschema.validate(json.loads(call.arguments), PARAMETERS if call.name == "sky" else CLOCK["parameters"])
        seen.add((call.name, call.arguments))
    assert len(seen) > 1


def test_a_named_call_is_valid_and_the_same_again(model: TextGenerator) -> None:
    answers = [
        model.generate_chat(ASK, tools=[WEATHER, CLOCK], tool_choice="sky", temperature=0, max_tokens=300)
        for _ in range(2)
    ]
    assert [call.name for call in answers[0].tool_calls] == ["sky"]
    jsonschema.validate(json.loads(answers[0].tool_calls[0].arguments), PARAMETERS)
    assert answers[0].tool_calls[0].arguments == answers[1].tool_calls[0].arguments


def test_the_tools_are_in_the_prompt(model: TextGenerator) -> None:
    events = list(model.stream_chat(ASK, tools=[WEATHER], tool_choice="required", seed=1, max_tokens=300))
    assert any(isinstance(event, ToolCall) for event in events)
    without = model.generate_chat(ASK, max_tokens=1).usage.prompt_tokens
    assert model.generate_chat(ASK, tools=[WEATHER], max_tokens=1).usage.prompt_tokens > without + 20
