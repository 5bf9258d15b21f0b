"""Guided answers of a real model: they follow the guidance, and say what the model knows."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest

from lmsupply_cli import Guidance, TextGenerator

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"type": "string", "minLength": 1, "maxLength": 20},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
ANNA = "Anna is 31 years old and lives in Paris. Give her name, age and city as JSON."
CITY = r"The capital of Germany is [A-Z][a-zäöüß]{2,12}\."
DATE = r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"


def test_a_schema_is_filled_from_the_text(model: TextGenerator) -> None:
    answer = model.generate(ANNA, guidance=Guidance.json_schema(PERSON))
    assert json.loads(answer.text) == {"name": "Anna", "age": 31, "city": "Paris"}
    assert answer.complete
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("seed", range(4))
def test_what_is_sampled_follows_the_schema(model: TextGenerator, seed: int) -> None:
    """At a temperature at which free text is noise."""
    answer = model.generate(
        ANNA, guidance=Guidance.json_schema(PERSON), temperature=2.5, top_k=0, top_p=1.0, seed=seed, max_tokens=200
    )
    assert answer.complete
    jsonschema.validate(json.loads(answer.text), PERSON)


def test_a_regex(model: TextGenerator) -> None:
    answer = model.generate("What is the capital of Germany?", guidance=Guidance.regex(CITY))
    assert answer.text == "The capital of Germany is Berlin."
    dates = [
        model.generate("When was the letter written?", guidance=Guidance.regex(DATE), temperature=2.0, seed=seed).text
        for seed in range(4)
    ]
    assert all(re.fullmatch(DATE, date) for date in dates)
    assert len(set(dates)) > 1


def test_a_grammar(model: TextGenerator) -> None:
    grammar = 'start: "The capital of " country " is " city "."\ncountry: "Italy"\ncity: "Paris" | "Rome" | "Berlin"'
    answer = model.generate("What is the capital of Italy?", guidance=Guidance.grammar(grammar))
    assert answer.text == "The capital of Italy is Rome."


def test_a_batch_follows_the_schema(model: TextGenerator) -> None:
    """With one row for each person, of different lengths."""
    texts = [ANNA, "Tom, who lives in London, works as a teacher. Give his name, age and city as JSON."]
    answers = model.generate_batch(texts, batch_size=2, guidance=Guidance.json_schema(PERSON))
    anna, tom = (json.loads(answer.text) for answer in answers)
    assert anna == {"name": "Anna", "age": 31, "city": "Paris"}
    jsonschema.validate(tom, PERSON)
    assert (tom["name"], tom["city"]) == ("Tom", "London")
