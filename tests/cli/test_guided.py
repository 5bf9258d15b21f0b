"""run --json-schema, --regex, --grammar, --format; /format in a chat."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.cli import lmsupply

SCHEMA = '{"type":"object","properties":{"kind":{"enum":["cat","dog"]}},"required":["kind"]}'

CIRCLE = Path(__file__).parent.parent / "data" / "circle.lark"


def test_a_schema_from_the_command_line_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("\ufeff" + SCHEMA, encoding="utf-8")
    for schema in (SCHEMA, str(tmp_path / "s.json")):
        result = lmsupply("run", "-q", "-m", "guide", "--json-schema", schema, "which animal?")
        assert result.code == 0
        assert json.loads(result.out)["kind"] in ("cat", "dog")
        assert result.err == ""


def test_a_pattern_a_grammar_and_any_json(tmp_path: Path) -> None:
    assert lmsupply("run", "-q", "-m", "guide", "--regex", "(yes|no)", "x").out in ("yes\n", "no\n")
    (tmp_path / "g.lark").write_text('start: "up" | "down"\n')
    assert lmsupply("run", "-q", "-m", "guide", "--grammar", str(tmp_path / "g.lark"), "x").out in ("up\n", "down\n")
    result = lmsupply("run", "-q", "-m", "guide", "--format", "json", "x", "--temperature", "0")
    if result.code == 0:
        json.loads(result.out)


def test_cut_by_the_limit_is_exit_1_with_what_there_is() -> None:
    result = lmsupply("run", "-m", "guide", "--json-schema", SCHEMA, "--max-tokens", "2", "x")
    assert result.code == 1
    assert result.out.startswith('{"')
    assert "error: the answer ended before it was complete" in result.err
    result = lmsupply("run", "-m", "guide", "--json-schema", SCHEMA, "--max-tokens", "2", "x", "--json")
    assert result.code == 1
    assert result.json["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json-schema", '{"not": {}}'), "the keyword 'not'"),
        (("--json-schema", '{"type": "array", "items": {"format": "uri"}}'), "items uses the format 'uri'"),
        (("--json-schema", "/no/such/file"), "cannot read the schema"),
        (("--json-schema", "{"), "is no JSON"),
        (("--grammar", "/no/such/file"), "cannot read the grammar"),
        (("--regex", "["), "unclosed character class"),
        (("--regex", ""), "is empty"),
        (("--json-schema", '{"$ref": "#"}'), "the schema cannot be satisfied"),
        (("--json-schema", '{"type":"array","items":' * 5000 + "{}" + "}" * 5000), "nested too deeply"),
        (("--regex", "[^\\s\\S]"), "the regex cannot be satisfied: no answer can begin"),
        (("--regex", "(" * 20_000 + "a" + ")" * 20_000), "the guidance cannot be used"),
        (("--grammar", str(CIRCLE)), "the lark grammar cannot be satisfied"),
        (("--format", "xml"), "--format xml is not known"),
        (("--format", "json", "--regex", "x"), "--regex and --format exclude each other"),
        (("--format", "json", "--num-beams", "2"), "decides alone"),
    ],
)
def test_what_cannot_be_followed_is_exit_2(arguments: tuple[str, ...], said: str) -> None:
    result = lmsupply("run", "-m", "guide", *arguments, "x")
    assert result.code == 2
    assert said in result.err
    assert result.out == ""


def test_an_empty_answer_is_complete_only_where_it_may_be(tmp_path: Path) -> None:
    toy = Path(__file__).parent.parent / "models" / "toy"
    asked = ("run", "-m", toy, "--temperature", "0", "--raw", "x<|im_start|>")  # which the end token follows
    free = lmsupply(*asked, "--regex", "(yes)?")
    assert (free.code, free.out.strip(), free.err) == (0, "", "")
    (tmp_path / "g.lark").write_text('start: "a"*\n')
    unknown = lmsupply(*asked, "--grammar", str(tmp_path / "g.lark"))
    assert unknown.code == 1
    assert "the answer ended before it was complete" in unknown.err


def test_what_the_vocabulary_lacks_half_way_is_one_line_and_no_warning_of_the_engine() -> None:
    llama = Path(__file__).parent.parent / "models" / "llama"
    result = lmsupply("run", "-q", "-m", llama, "--seed", "2", "--temperature", "1", "--regex", r"\d{3}-\w+ end", "x")
    assert result.code == 1
    assert [line.split(":")[0] for line in result.err.splitlines()] == ["error", "hint"]


def test_a_guidance_is_looked_at_before_a_model_is_pulled() -> None:
    result = lmsupply("run", "-m", "phi-3.5", "--pull", "--regex", "[", "hello")
    assert result.code == 2
    assert "unclosed character class" in result.err
    assert "phi-3.5" not in result.err


def test_a_character_that_the_vocabulary_lacks_is_exit_1() -> None:
    toy = Path(__file__).parent.parent / "models" / "toy"
    result = lmsupply("run", "-q", "-m", toy, "--json-schema", '{"enum": ["日本"]}', "x")
    assert result.code == 1
    assert len([line for line in result.err.splitlines() if not line.startswith("hint: ")]) == 1
    assert "has no whole token for '日'" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_format_in_a_chat(tmp_path: Path) -> None:
    from support.chat import Chat

    (tmp_path / "s.json").write_text(SCHEMA)
    chat = Chat("guide", "--no-save", columns=160)
    assert "Answers are free." in chat.ask("/format")
    assert "Answers follow this regex" in chat.ask("/format regex (yes|no)")
    assert chat.ask("is it?").split()[-1] in ("yes", "no")
    assert "follow this json schema" in chat.ask(f"/format schema {tmp_path}/s.json")
    assert '{"kind":"' in chat.ask("which animal?")
    assert "follow this json schema" in chat.ask('/format {"enum": ["this", "that"]}')
    assert chat.ask("which?").split()[-1] in ('"this"', '"that"')
    assert "unclosed character class" in chat.ask("/format regex [")
    assert "/format knows no 'xml'" in chat.ask("/format xml")
    assert "Answers follow a json schema" in chat.ask("/format")
    chat.ask("/format off")
    assert "kind" not in chat.ask("/clear")
    assert "Hello! I am the lmsupply guide" in chat.ask("hello")
    chat.leave()
