"""run --batch: a file of prompts, a file of answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.cli import lmsupply

SLOW = Path(__file__).parent.parent / "models" / "slow"
LINES = [
    '{"prompt": "hello", "id": "a"}',
    '{"prompt": "How do I download a model?", "options": {"max_tokens": 5}}',
    "no json",
    '{"messages": [{"role": "user", "content": "thanks"}], "temperature": 0}',
    '{"prompt": ""}',
    "",
    '{"prompt": "x", "nonsense": 1}',
    '{"prompt": "x", "top_p": 7}',
    '{"prompt": "' + "word " * 2000 + '"}',
    '{"prompt": "How do I list my models?", "id": 7}',
]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_good_lines_are_answered_and_bad_ones_are_named(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(LINES) + "\n")
    result = lmsupply("run", "-m", "guide", "--batch", source, "--out", out)
    assert result.code == 1
    assert result.out == ""
    found = rows(out)
    assert [row["index"] for row in found] == list(range(9))
    assert [row["id"] for row in found] == ["a", None, None, None, None, None, None, None, 7]
    assert found[0]["text"].startswith("Hello! I am the lmsupply guide")
    assert found[0]["model"]["ref"] == "guide"
    assert (found[1]["finish_reason"], found[1]["usage"]["completion_tokens"]) == ("length", 5)
    assert found[1]["options"]["max_tokens"]["value"] == 5
    assert found[3]["text"] == "You are welcome!"
    assert found[8]["text"].startswith("Run `lmsupply models`")
    assert [row["error"]["code"] for row in found if "error" in row] == ["usage"] * 4 + ["context_overflow"]
    for number in (3, 5, 7, 8, 9):
        assert f"line {number}: " in result.err
    assert "4 answered, 1 of them cut by max_tokens or the context, 5 failed; " in result.err
    assert "--" not in "".join(row["error"]["message"] for row in found if "error" in row), "a file has keys, not flags"


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("hello\n\nthanks\n")
    result = lmsupply("run", "guide", "--batch", source, "--out", out, "-s", "Be kind.", "--temperature", "0", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert [row["text"][:5] for row in rows(out)] == ["Hello", "You a"]


def test_what_is_there_is_not_asked_again(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("hello\nthanks\nbye\n")
    lmsupply("run", "-m", "guide", "--batch", source, "--out", out)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    out.write_bytes(lines[0] + lines[1][:40])  # a kill in the middle of a line
    result = lmsupply("run", "-m", "guide", "--batch", source, "--out", out)
    assert "2 answered, 1 already there" in result.err
    assert [row["index"] for row in rows(out)] == [0, 1, 2]
    assert out.read_bytes().startswith(lines[0])
    source.write_text("something else\nthanks\nbye\n")
    result = lmsupply("run", "-m", "guide", "--batch", source, "--out", out)
    assert result.code == 2
    assert "contains answers to other prompts" in result.err


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes('{"prompt": "one\u2028two\x85three", "id": "\u2028"}\r\n{"prompt": "thanks"}\r\n'.encode())
    command = ("run", "-m", "guide", "--batch", source, "--out", out)
    assert lmsupply(*command).code == 0
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["id"] for row in found] == ["\u2028", None]
    result = lmsupply(*command)
    assert result.code == 0
    assert result.err.endswith(f"0 answered, 2 already there: {out}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_stopped_by_hand_it_says_how_to_go_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"question {n}\n" for n in range(6)))
    command = [sys.executable, "-m", "lmsupply_cli", "run", str(SLOW), "--batch", str(source), "--out", str(out)]
    command += ["--temperature", "0", "--min-length", "40", "--max-tokens", "40", "--batch-size", "2"]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)
    until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 2)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    there = len(rows(out))
    assert f"{there} of 6 prompts are done; run the same command to continue: {out}" in said


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_and_run_again(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"question {n}\n" for n in range(6)))
    command = [sys.executable, "-m", "lmsupply_cli", "run", str(SLOW), "--batch", str(source), "--out", str(out)]
    command += ["--temperature", "0", "--min-length", "40", "--max-tokens", "40", "--batch-size", "2"]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
    until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = out.read_bytes()
    assert there.count(b"\n") < 6
    assert subprocess.run(command, env=os.environ, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert out.read_bytes().startswith(there[: there.rfind(b"\n") + 1])
    assert [row["index"] for row in rows(out)] == list(range(6))


def test_a_guided_batch(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("is it private?\nis it open?\nis it fast?\n")
    result = lmsupply("run", "-m", "guide", "--batch", source, "--out", out, "--regex", "(yes|no)")
    assert (result.code, result.out) == (0, "")
    assert "one at a time" not in result.err
    assert {row["text"] for row in rows(out)} <= {"yes", "no"}


def test_a_grammar_may_name_control_tokens(tmp_path: Path) -> None:
    source, out, grammar = tmp_path / "in.txt", tmp_path / "out.jsonl", tmp_path / "g.lark"
    source.write_text("is it private?\nis it open?\n")
    grammar.write_text('start: ("yes" | "no") <|im_start|>?\n')
    result = lmsupply("run", "-m", "guide", "--batch", source, "--out", out, "--grammar", grammar)
    assert result.code == 0
    assert {row["text"] for row in rows(out)} <= {"yes", "no"}
    assert all(row["complete"] for row in rows(out))


def test_guided_answers_that_were_cut_are_named(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "a"}\n{"prompt": "b", "max_tokens": 3}\n{"prompt": "c", "num_beams": 2}\n')
    command = (
        "run",
        "-m",
        "guide",
        "--batch",
        source,
        "--out",
        out,
        "--json-schema",
        '{"const": "one two three four"}',
    )
    result = lmsupply(*command)
    assert result.code == 1
    assert "line 2: the answer was cut off before it was complete" in result.err
    assert "line 3: beam search cannot be combined with batches" in result.err
    assert "2 answered, 1 of them cut off, 1 failed" in result.err
    assert [row.get("finish_reason") for row in rows(out)] == ["stop", "length", None]
    assert [row.get("complete") for row in rows(out)] == [True, False, None]
    assert lmsupply(*command).code == 1, "what is there is still cut"


def test_a_guidance_that_cannot_be_followed_writes_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("a\nb\n")
    result = lmsupply("run", "-m", "guide", "--batch", source, "--out", out, "--regex", "[")
    assert result.code == 2
    assert "unclosed character class" in result.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "o"), "--out needs --batch"),
        (("--batch-size", "2"), "--batch-size needs --batch"),
        (("--retry-failed",), "--retry-failed needs --batch"),
        (("--batch", "in.txt", "--retry-failed"), "--retry-failed needs a file with --out"),
        (("--batch", "in.txt", "--retry-failed", "--out", "/dev/null"), "--retry-failed needs a file with --out"),
        (("--batch", "-", "--no-stdin"), "--no-stdin cannot be combined with --batch -"),
        (("--batch", "in.txt", "--out", "in.txt"), "would overwrite the prompts"),
        (("--batch", "in.txt", "--out", "o", "--json"), "leave out --json"),
        (("--batch", "in.txt", "--out", "o", "a prompt"), "leave out the prompt"),
        (("--batch", "in.txt", "--out", "o", "--raw"), "leave out --raw"),
        (("--batch", "in.txt", "--out", "/no/such/folder/o"), "cannot write"),
        (("--batch", "gone.txt", "--out", "o"), "cannot read"),
        (("--batch", "empty.txt", "--out", "o"), "there is no prompt in"),
        (("--batch", "in.txt", "--out", "o", "--num-beams", "2"), "beam search cannot be combined with batches"),
        (
            ("--batch", "in.txt", "--out", "o", "--batch-size", "0"),
            "--batch-size must be a whole number from 1 to 32, not '0'",
        ),
        (("--batch", "in.txt", "--out", "."), "cannot write .: it is a folder"),
        (("--batch", "in.txt", "--out", ""), "--out is empty"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "in.txt").write_text("hello\n")
    (tmp_path / "empty.txt").write_text("\n")
    result = lmsupply("run", "-m", "guide", *arguments, cwd=tmp_path)
    assert result.code == 2
    assert said in result.err
    assert (tmp_path / "in.txt").read_text() == "hello\n"


def test_a_long_line_is_cut_only_on_demand(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("word " * 2000 + "\nthanks\n")
    result = lmsupply("run", "-m", "guide", "--batch", source, "--out", out, "--on-overflow", "truncate-start")
    assert result.code == 0
    assert "line 1: the prompt was cut at its start" in result.err
    assert [n["code"] for n in rows(out)[0]["notices"] if n["code"] != "cut_by_length"] == ["overflow"]
    assert "overflow" not in [n["code"] for n in rows(out)[1]["notices"]]


def test_what_has_no_draft_tokens_is_said() -> None:
    result = lmsupply("run", "-m", "guide", "--speculative", "ngram", "--num-beams", "2", "--max-tokens", "4", "hello")
    assert "note: speculative decoding is off: beam search does not use draft tokens" in result.err
