"""Guided answers always parse: 200 schemas on the guide and on a random model, at a temperature that wants anything."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lmsupply_cli import Notice, TextDelta, TextGenerator, UsageError, load
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance

MODELS = Path(__file__).parent.parent / "models"
Schema = dict[str, Any]


def obj(required: bool = True, **properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties) if required else []}


def arr(items: Any, low: int, high: int) -> Schema:
    return {"type": "array", "items": items, "minItems": low, "maxItems": high}


def leaves() -> list[Schema]:
    """Schemas whose answers are short whatever the model wants."""
    return [
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["null", "boolean"]},
        {"const": "fixed"},
        {"const": 3.5},
        {"const": {"a": [1, None, True]}},
        {"enum": ["red", "green", "blue"]},
        {"enum": [1, "two", None, [3]]},
        {"type": "integer", "minimum": 0, "maximum": 9},
        {"type": "integer", "minimum": -20, "maximum": 1000},
        {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 8},
        {"type": "integer", "minimum": 3, "maximum": 30, "multipleOf": 3},
        {"type": "string", "maxLength": 6},
        {"type": "string", "minLength": 2, "maxLength": 4},
        {"type": "string", "pattern": "^[a-c]{2,4}$"},
        {"type": "string", "pattern": "^(north|south)-[0-9]{2}$"},
        {"type": "string", "format": "date"},
        {"type": "string", "format": "uuid"},
        {"type": "string", "format": "ipv4"},
        {"anyOf": [{"type": "boolean"}, {"enum": ["maybe"]}]},
        {"oneOf": [{"type": "boolean"}, {"enum": ["maybe"]}]},
        {"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 7}]},
    ]


def schemas() -> list[Schema]:
    """At least 200: every leaf alone, in arrays, in objects, nested, beside another, by reference, in unions."""
    found = list(leaves())
    for leaf in leaves():
        found += [
            arr(leaf, 0, 2),
            arr(leaf, 2, 3),
            obj(a=leaf),
            obj(required=False, a=leaf),
            obj(outer=obj(inner=arr(leaf, 1, 1))),
            {"$ref": "#/$defs/leaf", "$defs": {"leaf": leaf}},
            obj(one={"$ref": "#/definitions/x"}, two={"$ref": "#/definitions/x"}) | {"definitions": {"x": leaf}},
            {"anyOf": [obj(kind={"const": "a"}, value=leaf), obj(kind={"const": "b"})]},
        ]
    for first, second in itertools.islice(itertools.combinations(leaves(), 2), 0, 60, 7):
        found.append(obj(first=first, second=second))
        found.append({"type": "array", "prefixItems": [first, second], "minItems": 2, "items": False})
    names = ["a b", "x-y", 'q"uote', "back\\slash", "$dollar", "Grün", "naïve"]
    found += [obj(**{name: {"type": "boolean"}}) for name in names[:5]]
    tree = {"type": "object", "properties": {"leaf": {"type": "boolean"}, "next": {"$ref": "#/$defs/tree"}}}
    found.append({"$ref": "#/$defs/two", "$defs": {"two": obj(a=tree["properties"]["leaf"])}})
    found.append(
        {
            "type": "object",
            "patternProperties": {"^k[0-9]$": {"type": "boolean"}},
            "maxProperties": 2,
            "additionalProperties": False,
        }
    )
    return found


@pytest.fixture(scope="module", params=["guide", "llama"])
def model(request: pytest.FixtureRequest, guide: Path) -> Iterator[TextGenerator]:
    with load(guide if request.param == "guide" else MODELS / request.param) as loaded:
        yield loaded


def test_there_are_200() -> None:
    assert len(schemas()) >= 200


@pytest.mark.parametrize("part", range(8))
def test_every_answer_parses_and_validates(model: TextGenerator, part: int) -> None:
    for number, schema in list(enumerate(schemas()))[part::8]:
        found = model.generate("x", guidance=Guidance.json_schema(schema), max_tokens=300, temperature=1.0, seed=number)
        assert (found.finish_reason, found.complete) == ("stop", True), (schema, found.text)
        jsonschema.validate(json.loads(found.text), schema)
        assert not re.search(r"\s", re.sub(r'"(\\.|[^"\\])*"', "", found.text)), "white space between the values"


def test_in_batches_too(model: TextGenerator) -> None:
    for number, schema in enumerate(schemas()[::3]):
        guidance = Guidance.json_schema(schema)
        prompts = ["x", "a longer one, so that rows end apart", "y z"]
        for found in model.generate_batch(prompts, guidance=guidance, max_tokens=300, temperature=1.0, seed=number):
            assert (found.finish_reason, found.complete) == ("stop", True), (schema, found.text)
            jsonschema.validate(json.loads(found.text), schema)


@pytest.mark.parametrize(("temperature", "top_p", "min_p"), [(0.0, 1.0, 0.0), (0.7, 0.9, 0.0), (2.0, 1.0, 0.1)])
def test_with_every_kind_of_sampling(model: TextGenerator, temperature: float, top_p: float, min_p: float) -> None:
    schema = obj(a={"enum": ["x", "yy"]}, b={"type": "integer", "minimum": 0, "maximum": 99})
    for seed in range(5):
        found = model.generate(
            "x", guidance=Guidance.json_schema(schema), temperature=temperature, top_p=top_p, min_p=min_p, seed=seed,
            repetition_penalty=1.3,
        )  # fmt: skip
        jsonschema.validate(json.loads(found.text), schema)


@pytest.mark.parametrize("name", ["phi3", "gemma2", "longrope-fp32"])
def test_a_vocabulary_that_puts_a_space_before_a_text_follows_a_guidance_too(name: str) -> None:
    """SentencePiece: what the guidance leaves no choice about is written without that space."""
    with load(MODELS / name) as model:
        for number, schema in list(enumerate(schemas()))[::9]:
            guidance = Guidance.json_schema(schema)
            found = model.generate("x", guidance=guidance, max_tokens=300, temperature=1.0, seed=number)
            assert (found.finish_reason, found.complete) == ("stop", True), (schema, found.text)
            jsonschema.validate(json.loads(found.text), schema)


def test_patterns_and_grammars(model: TextGenerator) -> None:
    for seed in range(5):
        pattern = r"[a-f]{3}-(yes|no)-[0-9]{1,3}"
        assert re.fullmatch(pattern, model.generate("x", guidance=Guidance.regex(pattern), seed=seed).text)
        grammar = 'start: "<" word ("," word)? ">"\nword: /[a-z]{1,4}/'
        found = model.generate("x", guidance=Guidance.grammar(grammar), seed=seed).text
        assert re.fullmatch(r"<[a-z]{1,4}(,[a-z]{1,4})?>", found)


def test_any_json() -> None:
    with load(MODELS / "llama") as model:
        found = model.generate("x", guidance=Guidance.json(), max_tokens=400, seed=3)
        assert found.complete == (found.finish_reason == "stop")
        if found.finish_reason == "stop":
            assert isinstance(json.loads(found.text), (dict, list))
        else:
            assert found.finish_reason == "length"
            assert found.text[:1] in "[{"


def test_sampling_among_what_is_allowed_keeps_the_proportions(guide: Path) -> None:
    """Two words that the model finds unlikely come as often as its probabilities say, not always the likelier one."""
    with load(guide) as model:
        guidance = Guidance.regex("(a|b|c|d)")
        said = [
            model.generate("x", guidance=guidance, temperature=3.0, top_p=1.0, top_k=0, seed=seed).text
            for seed in range(60)
        ]
        assert len(set(said)) >= 3


def test_it_streams_and_stops_where_it_is_told(guide: Path) -> None:
    with load(guide) as model:
        guidance = Guidance.json_schema(obj(a={"const": "one two three"}))
        pieces = [e.text for e in model.stream("x", guidance=guidance) if isinstance(e, TextDelta)]
        assert len(pieces) > 3
        assert "".join(pieces) == '{"a":"one two three"}'
        cut = model.generate("x", guidance=guidance, stop=("two",))
        assert (cut.text, cut.finish_reason, cut.complete) == ('{"a":"one ', "stop", False)
        letters = Guidance.regex("[ab]+c?")
        cut = model.generate("x", guidance=letters, stop="c", max_tokens=200, seed=1, temperature=1.5)
        assert cut.complete == (re.fullmatch("[ab]+", cut.text) is not None)
        assert model.generate("x", guidance=letters, max_tokens=1).complete is True
        assert model.generate("x", max_tokens=1).complete is None


def test_the_cache_serves_guided_turns_too(guide: Path) -> None:
    with load(guide) as model:
        guidance = Guidance.regex("(yes|no)")
        talk = [{"role": "user", "content": "is it private? " * 20}]
        first = model.generate_chat(talk, guidance=guidance, max_tokens=100)
        talk += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "sure?"}]
        second = model.generate_chat(talk, guidance=guidance, max_tokens=10)
        assert second.text in ("yes", "no")
        assert second.usage.cached_tokens > 50
        assert model.generate_chat(talk, temperature=0).text not in ("yes", "no"), "free again"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"not": {}}, "'not'"),
        (obj(a={"type": "array", "uniqueItems": True}), "properties.a uses the keyword 'uniqueItems'"),
        ({"anyOf": [{"if": {}}]}, "anyOf[0] uses the keyword 'if'"),
        ({"type": "strng"}, "no such type: 'strng'"),
        ({"type": "string", "format": "uri"}, "the format 'uri'"),
        ({"$ref": "http://x/y"}, "refers to 'http://x/y'"),
        ("{", "not valid JSON"),
        ("[1]", "a schema is a JSON object"),
        (obj(a=False), "no schema that an answer can follow"),
    ],
)
def test_what_is_not_supported_is_said_without_a_model(schema: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Guidance.json_schema(schema)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("guidance", "said"),
    [
        (
            Guidance.json_schema({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
            "oneOf constraints are not supported",
        ),
        (Guidance.json_schema({"type": "integer", "minimum": 5, "maximum": 3}), "minimum (5) is greater"),
        (Guidance.regex("(?=a)b"), "look-around"),
        (Guidance.regex("["), "unclosed character class"),
        (Guidance.grammar("start: foo"), 'unknown name: "foo"'),
    ],
)
def test_what_the_grammar_library_refuses_is_said_in_one_line(guidance: Guidance, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_guidance(guidance)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_a_long_list_is_no_large_grammar(toy: Path) -> None:
    guidance = Guidance.json_schema(arr({"type": "integer"}, 0, 100000))
    check_guidance(guidance)
    with load(toy) as model:
        assert model.generate("x", guidance=guidance, max_tokens=4).text[:1] == "["


def test_pydantic_models_and_mappings_are_taken() -> None:
    class Like:
        @staticmethod
        def model_json_schema() -> Schema:
            return obj(a={"type": "boolean"})

    assert Guidance.json_schema(Like) == Guidance.json_schema(obj(a={"type": "boolean"}))
    assert json.loads(Guidance.json_schema(obj(a={"type": "boolean"})).text)["additionalProperties"] is False


def test_characters_of_several_tokens_can_be_asked_for(toy: Path) -> None:
    with load(toy) as model:
        guidance = Guidance.json_schema({"enum": ["日本"]})
        found = model.generate("x", guidance=guidance)
        assert (found.text, found.complete) == ('"日本"', True)
        cut = model.generate("x", guidance=guidance, max_tokens=5)
        assert (cut.text, cut.complete) == ('"日\ufffd', False)
        described = {"type": "boolean", "description": "日本"}
        assert model.generate("x", guidance=Guidance.json_schema(described)).text in ("true", "false")


def test_beams_exclude_a_guidance(guide: Path) -> None:
    with load(guide) as model, pytest.raises(UsageError, match="beam search cannot be combined with a schema"):
        model.generate("x", guidance=Guidance.json(), num_beams=2)


@pytest.mark.parametrize("options", [{"min_length": 12}, {"no_repeat_ngram_size": 2}, {"presence_penalty": 2.0}])
def test_other_rules_never_break_a_guidance(model: TextGenerator, options: dict[str, Any]) -> None:
    guidance = Guidance.json_schema(arr({"enum": ["ab", "abab"]}, 3, 4))
    for seed in range(4):
        found = model.generate("x", guidance=guidance, temperature=1.0, seed=seed, **options)
        assert found.complete
        assert 3 <= len(json.loads(found.text)) <= 4


def test_guided_answers_take_draft_tokens(guide: Path) -> None:
    schema = arr(obj(name={"enum": ["alpha", "beta"]}, ok={"type": "boolean"}), 6, 8)
    guidance = Guidance.json_schema(schema)
    with load(guide) as plain, load(guide, speculative="ngram") as drafting:
        for prompt in ("list", "list them all"):
            expected = plain.generate(prompt, guidance=guidance, temperature=0)
            found = drafting.generate(prompt, guidance=guidance, temperature=0)
            assert found.text == expected.text
            assert found.speculative is not None
            assert found.speculative.accepted > 20
        for seed in range(3):
            found = drafting.generate("x", guidance=guidance, temperature=1.0, seed=seed)
            jsonschema.validate(json.loads(found.text), schema)
            drafting.clear_cache()
            again = drafting.generate("x", guidance=guidance, temperature=1.0, seed=seed)
            assert again.text == found.text
        found = drafting.generate("x", guidance=guidance, min_p=0.1)
        jsonschema.validate(json.loads(found.text), schema)
        assert drafting.generate("hello", temperature=0).text == plain.generate("hello", temperature=0).text


def test_an_answer_ends_with_whichever_end_token_the_model_wants(guide: Path, tmp_path: Path) -> None:
    """The first end token of the config is one that no chat of the model ends with."""
    folder = tmp_path / "two-ends"
    shutil.copytree(guide, folder)
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["eos_token_id"] = [0, config["model"]["eos_token_id"]]
    (folder / "genai_config.json").write_text(json.dumps(config))
    with load(folder) as model:
        free = model.generate("thanks", temperature=0).text
        anything = Guidance.regex(r"[\s\S]*")
        found = [model.generate("thanks", guidance=anything, temperature=0, max_tokens=60)]
        found += model.generate_batch(["thanks", "hello"], guidance=anything, temperature=0, max_tokens=60)[:1]
        assert [(f.text, f.finish_reason, f.complete) for f in found] == [(free, "stop", True)] * 2
    with load(folder, speculative="ngram") as model:
        events = list(model.stream("thanks", guidance=anything, temperature=0, max_tokens=60))
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == free
        assert [e for e in events if isinstance(e, Notice)] == []
        assert model.generate("thanks", guidance=anything, min_p=0.1, max_tokens=4).speculative is not None
        listed = model.generate("x", guidance=Guidance.json_schema(arr({"enum": ["alpha"]}, 6, 8)), temperature=0)
        assert listed.speculative is not None


def test_what_is_not_drafted_is_said_when_it_changes(guide: Path) -> None:
    def noted(model: TextGenerator, guidance: Guidance | None, **options: int) -> list[str]:
        events = model.stream("hello", guidance=guidance, max_tokens=4, temperature=0, **options)
        return [event.text for event in events if isinstance(event, Notice) and event.code == "speculative"]

    with load(guide, speculative=f"draft:{guide}") as model:
        assert noted(model, Guidance.regex("(a|b)")) == []
        assert noted(model, None) == []
        beams = noted(model, None, num_beams=2)
        assert beams == ["speculative decoding is off: beam search does not use draft tokens"]
        assert noted(model, None, num_beams=2) == []
        assert noted(model, None) == []
