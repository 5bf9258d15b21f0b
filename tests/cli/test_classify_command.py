"""`lmsupply classify` as a black box."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.cli import lmsupply

QUESTION = "How do I download a model?"
BASE = ("classify", "-q", "-m", "guide", "--choices", "Hello,Run, You are welcome!")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_best_choice_and_nothing_else() -> None:
    result = lmsupply("classify", QUESTION, "--choices", "Hello", "--choices", "Run,You are welcome!")
    assert (result.code, result.out) == (0, "Run\n")
    (line,) = result.err.splitlines()
    assert line.startswith("note: no model is installed, so the built-in guide answers")
    piped = lmsupply("classify", "-q", "guide", "--choices", "Hello,Run", stdin=QUESTION)
    assert (piped.code, piped.out, piped.err) == (0, "Run\n", "")


def test_all_is_a_table_with_the_best_first() -> None:
    result = lmsupply(*BASE, "--all", QUESTION)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["Run", "You are welcome!", "Hello"]
    assert len({len(line) for line in lines}) == 1
    probability, share = lines[0].split()[1:]
    assert float(probability) > 0.95
    assert share == "100.0%"


def test_json_is_one_object() -> None:
    result = lmsupply("classify", "--json", *BASE[2:], QUESTION)
    found = result.json
    assert list(found) == ["schema", "best", "choices", "model", "usage", "notices"]
    assert (found["schema"], found["best"], found["notices"]) == (2, "Run", [])
    assert [choice["text"] for choice in found["choices"]] == ["Hello", "Run", "You are welcome!"]
    for choice in found["choices"]:
        assert list(choice) == ["text", "logprob", "probability", "share", "tokens"]
        assert choice["probability"] == pytest.approx(math.exp(choice["logprob"]))
    assert sum(choice["share"] for choice in found["choices"]) == pytest.approx(1)
    assert found["model"]["ref"] == "guide"
    assert list(found["usage"]) == ["prompt_tokens", "cached_tokens"]
    assert lmsupply("classify", "--json", "--choices", "a,b", "x").json["notices"][0]["code"] == "guide"


def test_prompt_and_choices_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "question.txt").write_text(QUESTION + "\n")
    (tmp_path / "choices.txt").write_text("Hello, you\r\n\n Run\nRun\n")
    result = lmsupply("classify", "--json", "-m", "guide", "-s", "Be brief.", "--choices", "Hi, Bye",
                      "--choices-file", "choices.txt", "-f", "question.txt", cwd=tmp_path)  # fmt: skip
    assert [choice["text"] for choice in result.json["choices"]] == ["Hi", "Bye", "Hello, you", " Run", "Run"]
    assert result.json["best"] == "Run"
    raw = lmsupply("classify", "--json", "--raw", "-m", "guide", "--choices", "a,b", "x").json
    assert raw["usage"]["prompt_tokens"] < result.json["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "there are no choices"),
        (("--choices", "a"), "there must be at least two choices"),
        (("--choices", "a,b,a"), "the choice 'a' is given twice"),
        (("--choices", "a,,b"), "choice 2 is empty"),
        (("--choices", "a,b", "--raw", "-s", "x"), "--system cannot be combined with --raw"),
        (("--choices", "a,b", "--out", "x.jsonl"), "--out needs --batch"),
        (("--choices-file", "missing.txt"), "missing.txt"),
        (("--choices", "a,b", "--temperature", "1"), "unknown option --temperature"),
    ],
)
def test_bad_input_is_exit_2(arguments: tuple[str, ...], why: str, tmp_path: Path) -> None:
    result = lmsupply("classify", "-m", "guide", *arguments, "x", cwd=tmp_path)
    assert (result.code, result.err.lower().count(why.lower())) == (2, 1), result.err
    if "--json" not in arguments:
        assert result.out == ""


def test_no_prompt_and_no_room() -> None:
    result = lmsupply("classify", "-m", "guide", "--choices", "a,b")
    assert result.code == 2
    assert 'hint: add one: lmsupply classify --choices a,b guide "your question", or pipe it in' in result.err
    command = ("classify", "-m", "guide", "--context", "64", "--choices", "Hello,Run", "word " * 100 + QUESTION)
    result = lmsupply(*command)
    assert result.code == 4
    assert "the context has 64" in result.err
    result = lmsupply(*command, "--on-overflow", "truncate-start", "--json")
    assert result.code == 0
    assert result.json["notices"][0]["code"] == "overflow"
    assert result.json["usage"]["prompt_tokens"] <= 63
    assert result.json["best"] == "Run"
    filling = ("classify", "-m", "guide", "--context", "16", "--choices", "Hello,You are welcome!", QUESTION)
    result = lmsupply(*filling)
    assert result.code == 4
    assert "and the longest choice 7, but the context has 16" in result.err


def test_the_settings_file_makes_nothing_guess(tmp_path: Path) -> None:
    result = lmsupply(*BASE, QUESTION, LMSUPPLY_SPECULATIVE="draft:/nowhere", LMSUPPLY_NUM_BEAMS="3")
    assert (result.code, result.out, result.err) == (0, "Run\n", "")


LINES = [
    '{"prompt": "How do I download a model?", "id": "a"}',
    "no json",
    '{"messages": [{"role": "user", "content": "thanks"}]}',
    '{"prompt": "x", "temperature": 1}',
    '{"prompt": "' + "word " * 2000 + '"}',
]


def test_a_batch_is_resumed_and_bad_lines_are_named(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(LINES) + "\n")
    command = ("classify", *BASE[2:], "--batch", source, "--out", out)
    result = lmsupply(*command)
    assert (result.code, result.out) == (1, "")
    found = rows(out)
    assert [row["index"] for row in found] == list(range(5))
    assert [row.get("best") for row in found] == ["Run", None, "You are welcome!", None, None]
    assert list(found[0]) == [
        "schema", "index", "id", "input", "run", "best", "choices", "model", "usage", "notices",
    ]  # fmt: skip
    assert found[0]["id"] == "a"
    assert [row["error"]["code"] for row in found if "error" in row] == ["usage", "usage", "context_overflow"]
    for number in (2, 4, 5):
        assert f"line {number}: " in result.err
    assert result.err.endswith(f"2 classified, 3 failed: {out}\n")
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:30])  # a kill in the middle of a line
    result = lmsupply(*command)
    assert f"1 classified, 1 already there, 2 failed, 1 failed earlier: {out}\n" in result.err
    assert result.err.endswith("hint: --retry-failed retries the prompts that failed earlier\n")
    assert [row.get("best") for row in rows(out)] == ["Run", None, "You are welcome!", None, None]
    whole = out.read_bytes()
    assert lmsupply(*command).code == 1
    result = lmsupply(*command, "--choices", "another")
    assert result.code == 2
    assert "out.jsonl was made with other choices" in result.err
    assert out.read_bytes() == whole


def test_a_batch_from_a_pipe_into_a_pipe() -> None:
    result = lmsupply(*BASE, "--batch", "-", stdin=f"{QUESTION}\nthanks\n")
    assert (result.code, result.err) == (0, "")
    assert [row["best"] for row in result.json_lines] == ["Run", "You are welcome!"]


def test_what_failed_is_classified_again(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("word " * 100 + QUESTION + "\nthanks\n")
    command = ("classify", *BASE[2:], "--batch", source, "--out", out)
    assert lmsupply(*command, "--context", "64").code == 1
    second = out.read_bytes().splitlines()[1]
    result = lmsupply(*command, "--retry-failed")
    assert (result.code, result.err) == (0, f"1 classified, 1 already there: {out}\n")
    assert [row["best"] for row in rows(out)] == ["Run", "You are welcome!"]
    assert out.read_bytes().splitlines()[1] == second


@pytest.mark.parametrize(
    ("more", "why"),
    [(("--raw",), "--raw"), (("--json",), "--json"), (("--all",), "--all"), (("x",), "the prompt")],
)
def test_what_a_batch_excludes(more: tuple[str, ...], why: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("hello\n")
    result = lmsupply(*BASE, "--batch", "in.txt", "--out", "out.jsonl", *more, cwd=tmp_path)
    assert result.code == 2
    assert f"leave out {why}" in result.err


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(f"{QUESTION}\n\nthanks\n")
    result = lmsupply(*BASE, "--batch", "in.txt", "--out", "out.jsonl", cwd=tmp_path)
    assert (result.code, result.out, result.err) == (0, "", "")
    assert [row["best"] for row in rows(tmp_path / "out.jsonl")] == ["Run", "You are welcome!"]


def test_completion_offers_it() -> None:
    offered = lmsupply("classify", "--cho", _LMSUPPLY_COMPLETE="bash").out
    assert [line.split("\t")[0] for line in offered.splitlines()] == ["--choices", "--choices-file"]
    assert "guide\t" in lmsupply("classify", "gu", _LMSUPPLY_COMPLETE="bash").out
    assert "classify\t" in lmsupply("cl", _LMSUPPLY_COMPLETE="bash").out


def test_json_holds_every_choice_with_all_or_without() -> None:
    plain = lmsupply(*BASE, "--json", QUESTION).json
    assert lmsupply(*BASE, "--json", "--all", QUESTION).json["choices"] == plain["choices"]


def test_a_near_miss_names_the_command_and_its_choices() -> None:
    result = lmsupply("classify", "phi-3.6", "--choices", "a b,c", "hi")
    assert result.code == 2
    assert result.err.endswith("lmsupply classify --choices 'a b,c' -- phi-3.6 …\n")
