"""run --json-schema, --regex, --grammar, --format; /format in a chat."""

from __future__ import annotations

import json
import re
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
    assert "error: the answer was cut off" in result.err
    result = lmsupply("run", "-m", "guide", "--json-schema", SCHEMA, "--max-tokens", "2", "x", "--json")
    assert result.code == 1
    assert result.json["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("limit", "hint"),
    [
        (("--max-tokens", "2"), "raise --max-tokens, or use a larger model"),
        (("--context", "40"), "use a larger --context, a smaller schema or a larger model"),
        (("--stop", "a"), "leave out --stop, or use a larger model"),
    ],
)
def test_the_hint_names_what_cut_the_answer_off(limit: tuple[str, str], hint: str) -> None:
    result = lmsupply("run", "-m", "guide", "--regex", "a{400}", *limit, "x")
    assert (result.code, result.err.splitlines()[-1]) == (1, f"hint: {hint}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json-schema", '{"not": {}}'), "the keyword 'not'"),
        (("--json-schema", '{"type": "array", "items": {"format": "uri"}}'), "items uses the format 'uri'"),
        (("--json-schema", "/no/such/file"), "cannot read the schema"),
        (("--json-schema", "{"), "is not valid JSON"),
        (("--grammar", "/no/such/file"), "cannot read the grammar"),
        (("--regex", "["), "unclosed character class"),
        (("--regex", ""), "is empty"),
        (("--json-schema", '{"$ref": "#"}'), "no answer can satisfy the schema"),
        (("--json-schema", '{"type":"array","items":' * 5000 + "{}" + "}" * 5000), "nested too deeply"),
        (("--regex", "[^\\s\\S]"), "no answer can satisfy the regular expression"),
        (("--regex", "(" * 20_000 + "a" + ")" * 20_000), "the regular expression cannot be followed"),
        (("--grammar", str(CIRCLE)), "no answer can satisfy the grammar"),
        (("--format", "xml"), "unknown format 'xml'"),
        (("--format", "json", "--regex", "x"), "--regex and --format can't be combined"),
        (("--format", "json", "--num-beams", "2"), "beam search cannot be combined with a schema"),
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
    grammar = lmsupply(*asked, "--grammar", str(tmp_path / "g.lark"))
    assert (grammar.code, grammar.out.strip(), grammar.err) == (0, "", "")
    (tmp_path / "g.lark").write_text('start: "a"+\n')
    assert lmsupply(*asked, "--grammar", str(tmp_path / "g.lark"), "--max-tokens", "3").out.strip() == "aaa"


def test_short_classes_are_ascii_on_any_vocabulary() -> None:
    for name in ("toy", "llama", "phi3"):
        model = Path(__file__).parent.parent / "models" / name
        asked = ("run", "-q", "-m", model, "--seed", "2", "--temperature", "1", "--max-tokens", "40")
        result = lmsupply(*asked, "--regex", r"\d{3}-\w{1,5} end", "x")
        assert result.code == 0, result.err
        assert re.fullmatch(r"\d{3}-\w{1,5} end\n", result.out, re.ASCII)


def test_a_stop_sequence_that_cuts_a_guided_answer_does_not_complete_it() -> None:
    both = '{"type":"object","properties":{"a":{"const":1},"b":{"const":2}},"required":["a","b"]}'
    cut = lmsupply("run", "-m", "guide", "--stop", ",", "--json-schema", both, "x")
    assert (cut.code, cut.out.strip()) == (1, '{"a":1')
    assert lmsupply("run", "-q", "-m", "guide", "--regex", "abc", "x", LMSUPPLY_STOP="b").code == 1
    whole = lmsupply("run", "-q", "-m", "guide", "--regex", "[0-9]{2,}", "--max-tokens", "2", "--json", "x")
    assert (whole.code, whole.json["complete"]) == (0, True), "cut by the length, and accepted all the same"


def test_a_guidance_is_looked_at_before_a_model_is_pulled() -> None:
    result = lmsupply("run", "-m", "phi-3.5", "--pull", "--regex", "[", "hello")
    assert result.code == 2
    assert "unclosed character class" in result.err
    assert "phi-3.5" not in result.err


def test_characters_without_a_token_of_their_own_are_written_byte_by_byte() -> None:
    for name in ("toy", "llama", "phi3"):
        model = Path(__file__).parent.parent / "models" / name
        result = lmsupply("run", "-q", "-m", model, "--json-schema", '{"enum": ["日本 😀"]}', "x")
        assert (result.code, result.out) == (0, '"日本 😀"\n'), result.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_format_in_a_chat(tmp_path: Path) -> None:
    from support.chat import Chat

    (tmp_path / "s.json").write_text(SCHEMA)
    chat = Chat("guide", "--no-save", columns=160)
    assert "Format off." in chat.ask("/format")
    assert "Answers follow a regular expression" in chat.ask("/format regex (yes|no)")
    assert chat.ask("is it?").split()[-1] in ("yes", "no")
    assert "follow a JSON schema" in chat.ask(f"/format schema {tmp_path}/s.json")
    assert '{"kind":"' in chat.ask("which animal?")
    assert "follow a JSON schema" in chat.ask('/format {"enum": ["this", "that"]}')
    assert chat.ask("which?").split()[-1] in ('"this"', '"that"')
    assert "unclosed character class" in chat.ask("/format regex [")
    assert "unknown format 'xml'" in chat.ask("/format xml")
    assert "Answers follow a JSON schema" in chat.ask("/format")
    chat.ask("/format off")
    assert "kind" not in chat.ask("/clear")
    assert "Hello! I am the lmsupply guide" in chat.ask("hello")
    chat.leave()
