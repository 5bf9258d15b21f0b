"""run --batch: where the answers go, what is never touched, and how a batch is resumed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cli import lmsupply

from lmsupply_cli.cli.batch_files import Answers, Counts
from lmsupply_cli.cli.batch_lines import Line, read_lines
from lmsupply_cli.render.terminal import Terminal

BASE = ("run", "-m", "guide", "--max-tokens", "8", "--batch")
SMALL = Path(__file__).parent.parent / "models" / "slow"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "thanks"}\n{"prompt": "hello"}\n')
    return path


@pytest.mark.parametrize("out", [(), ("--out", "-"), ("--out", "/dev/stdout")])
def test_stdout_is_the_default(out: tuple[str, ...], prompts: Path, tmp_path: Path) -> None:
    result = lmsupply(*BASE, prompts, *out, cwd=tmp_path)
    assert result.code == 0
    assert [row["index"] for row in result.json_lines] == [0, 1]
    assert result.err.startswith("2 answered, 1 of them cut by max_tokens or the context; 15 tokens at ")
    assert ":" not in result.err
    assert {path.name for path in tmp_path.iterdir()} <= {"in.jsonl", "home"}


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("$L --out /dev/stdout | cat", "0", ""),
        ("$L | head -c 1", "0", ""),
        ("$L --out >(head -c 1 >/dev/null)", "0", ""),
        ("$L --out /dev/null", "0", "2 answered"),
        ("$L --out /dev/full", "1", "error: cannot write /dev/full: No space left on device"),
        ("$L > /dev/full", "1", "error: cannot write to standard output: No space left on device"),
        ("mkfifo p; cat p > got & $L --out p; wait; grep -c input got", "0", "2 answered"),
    ],
)
def test_special_files_are_written_and_never_read(
    script: str, code: str, said: str, prompts: Path, tmp_path: Path
) -> None:
    command = f"{sys.executable} -m lmsupply_cli run -m guide --max-tokens 8 --batch {prompts}"
    script = f"ulimit -v 6000000; set -o pipefail; L='{command}'; {script}"
    script = script.replace("wait;", "c=$?; wait;") if "wait;" in script else script + "; c=$?"
    done = subprocess.run(
        ["bash", "-c", script + "; exit $c"], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert f"{done.returncode}" == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "a bug" not in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"my only copy","version":"1.0.0"}',
        '{"name":"my only copy"}\n',
        '{"schema": 2, "indexes": [',
        '{"schema": 2, "index": 7, "id": null, "input": "',
        '{"schema": 2, "index": 0, "id": null, "input": "0123456789ab", "run": {}',
        "\n",
        "notes",
        "[]\n",
        '{"schema": 2, "index": true}\n',
        '{"schema": 2, "index": "0", "id": null, "input": "x"}\n',
    ],
)
def test_what_is_not_ours_is_left_as_it_is(text: str, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "conf.json"
    out.write_text(text)
    for more in ((), ("--retry-failed",)):
        result = lmsupply(*BASE, prompts, "--out", out, *more)
        assert result.code == 2
        assert f"{out} contains " in result.err
        assert "nothing was changed" in result.err
        assert out.read_text() == text


def test_our_rows_followed_by_something_else(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert lmsupply(*BASE, prompts, "--out", out).code == 0
    for more in ("my notes", "my notes\n", '{"schema": 2, "index": 0}\n'):
        whole = out.read_bytes() + more.encode()
        out.write_bytes(whole)
        assert lmsupply(*BASE, prompts, "--out", out).code == 2
        assert out.read_bytes() == whole
        out.write_bytes(whole.removesuffix(more.encode()))


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((), ("-s", "Answer in French."), "was made without a system prompt"),
        (("-s", "a"), ("-s", "b"), "was made with another system prompt"),
        (("-s", "a"), (), "was made with a system prompt; this run has none"),
        ((), ("--regex", "(yes|no)"), "was made without guidance"),
        (("--regex", "(yes|no)"), ("--regex", "(yes|nein)"), "was made with another guidance"),
        (("--regex", "(yes|no)"), (), "was made with guidance"),
        ((), ("--temperature", "0.25"), "; this run uses 0.25"),
        (("--seed", "1"), ("--seed", "2"), "was made with seed 1; this run uses 2"),
        (("--seed", "1"), (), "was made with seed 1; this run uses unset"),
        ((), ("--chat-format", "generic"), "was made with other chat format or reasoning options"),
        ((), ("-m", str(SMALL)), f"was made with model guide; this run uses {SMALL}"),
    ],
)
def test_a_batch_is_not_resumed_in_another_way(
    first: tuple[str, ...], second: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("thanks\n")
    assert lmsupply(*BASE, source, "--out", out, *first).code == 0
    before = out.read_bytes()
    result = lmsupply(*BASE, source, "--out", out, *second)
    assert result.code == 2
    assert f"error: {out} {said}" in result.err or said.startswith(";")
    assert said in result.err
    assert out.read_bytes() == before
    assert lmsupply(*BASE, source, "--out", out, *first).code == 0


def test_the_context_and_the_threads_may_change(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert lmsupply(*BASE, prompts, "--out", out).code == 0
    result = lmsupply(*BASE, prompts, "--out", out, "--context", "256", "--threads", "1", "--batch-size", "1")
    assert (result.code, result.err) == (0, f"0 answered, 2 already there: {out}\n")


def test_what_failed_is_named_and_answered_again(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    long = json.dumps({"prompt": "word " * 300, "id": "long"})
    source.write_text(f'{{"prompt": "thanks"}}\n{long}\n{{"prompt": "hello"}}\n')
    command = (*BASE, source, "--out", out)
    assert lmsupply(*command, "--context", "256").code == 1
    before = out.read_bytes().splitlines()
    result = lmsupply(*command)
    assert result.code == 1
    assert result.err == (
        f"0 answered, 2 already there, 1 failed earlier: {out}\nhint: --retry-failed retries the prompts that failed earlier\n"
    )
    result = lmsupply(*command, "--retry-failed", "--context", "256")
    assert result.code == 1
    assert "0 answered, 2 already there, 1 failed" in result.err
    out.chmod(0o640)
    result = lmsupply(*command, "--retry-failed")
    assert result.code == 0
    assert "1 answered, 1 of them cut by max_tokens or the context, 2 already there; " in result.err
    after = out.read_bytes().splitlines()
    assert (after[0], after[2]) == (before[0], before[2])
    assert [(row["index"], "error" in row) for row in rows(out)] == [(0, False), (1, False), (2, False)]
    assert out.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl", "home"}


def test_answers_that_were_cut_may_have_more_tokens(tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("a\nb\n")
    schema = ("--json-schema", '{"const": "one two three four"}')
    command = ("run", "-m", "guide", "--batch", source, "--out", out, *schema)
    assert lmsupply(*command, "--max-tokens", "3").code == 1
    assert "was made with max_tokens 3" in lmsupply(*command).err
    result = lmsupply(*command, "--retry-failed")
    assert result.code == 0
    assert [row["complete"] for row in rows(out)] == [True, True]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    source, out, real = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "real.jsonl"
    source.write_text('{"prompt": "' + "word " * 300 + '"}\n{"prompt": "thanks"}\n')
    real.touch()
    out.symlink_to(real)
    command = (*BASE, source, "--out", out)
    lmsupply(*command, "--context", "256")
    assert lmsupply(*command, "--retry-failed").code == 0
    assert out.is_symlink()
    assert [row["index"] for row in rows(real)] == [0, 1]


def test_two_batches_never_share_a_file(prompts: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out.jsonl", tmp_path / "sub"
    again.symlink_to(tmp_path)
    source = tmp_path / "more.txt"
    source.write_text("".join(f"question {n}\n" for n in range(40)))
    command = [sys.executable, "-m", "lmsupply_cli", "run", str(SMALL), "--batch", str(source), "--out", str(out)]
    first = subprocess.Popen([*command, "--batch-size", "2"], env=os.environ, stderr=subprocess.DEVNULL)
    try:
        while not out.exists():
            assert first.poll() is None
        result = lmsupply(*BASE, prompts, "--out", again / "out.jsonl")
        assert result.code == 2
        assert f"another lmsupply is writing {again / 'out.jsonl'}" in result.err
    finally:
        first.kill()
        first.wait()
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "more.txt", "out.jsonl", "sub", "home"}


@contextmanager
def answering(out: Path, lines: list[Line], *, retry: bool = False) -> Iterator[tuple[Answers, list[Line]]]:
    answers = Answers(out, lines, Terminal(None, io.StringIO(), io.StringIO(), {}), guided=False)
    answers.check_run({"model": "m", "files": "f", "options": {}}, retry=retry)
    left = answers.left(retry=retry)
    with answers.answering(Counts()):
        yield answers, left


def answer(out: Path, lines: list[Line], *, bad: tuple[int, ...] = (), retry: bool = False) -> list[int]:
    """Which ones were answered."""
    with answering(out, lines, retry=retry) as (answers, left):
        for line in left:
            answers.write(line, {"error": {"code": "x"}} if line.index in bad else {"text": f"é\u2028 {line.index}"})
    return [line.index for line in left]


LINES = ['{"prompt": "a", "id": "é"}', '{"prompt": "b", "id": 7}', "no json", '{"prompt": "c", "id": {"x": [1]}}']


def cut_lines(folder: Path) -> list[Line]:
    source = folder / "in.jsonl"
    source.write_text("\n".join(LINES), encoding="utf-8")
    return read_lines(source, Terminal(None, io.StringIO(), io.StringIO(), {}), system=None)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


def test_a_cut_at_any_byte_is_resumed_to_the_same_rows(tmp_path: Path) -> None:
    lines, out = cut_lines(tmp_path), tmp_path / "out.jsonl"
    answer(out, lines, bad=(2,))
    whole = out.read_bytes()
    for cut in range(len(whole) + 1):
        out.write_bytes(whole[:cut])
        answered = answer(out, lines, bad=(2,))
        assert out.read_bytes() == whole
        assert len(answered) == len(lines) - whole[:cut].count(b"\n")


def test_a_retry_that_is_cut_at_any_byte_loses_nothing(tmp_path: Path) -> None:
    lines, out = cut_lines(tmp_path), tmp_path / "out.jsonl"
    answer(out, lines, bad=(0, 2))
    before = out.read_bytes()
    answer(out, lines, retry=True)
    whole = out.read_bytes()
    new = [row for number, row in enumerate(whole.splitlines(keepends=True)) if number in (0, 2)]
    killed = before + b"".join(new)  # what stands there before the rows are put into order
    for cut in range(len(before), len(killed) + 1):
        out.write_bytes(killed[:cut])
        answered = answer(out, lines, retry=True)
        assert out.read_bytes() == whole
        assert len(answered) == 2 - killed[len(before) : cut].count(b"\n")
        out.write_bytes(killed[:cut])
        assert answer(out, lines) == []
        there = out.read_bytes().splitlines()
        assert len(there) == len(lines)
        assert there[1] == whole.splitlines()[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=80), st.integers(0, 4))
def test_foreign_bytes_are_never_changed(tmp_path: Path, foreign: bytes, kept: int) -> None:
    from lmsupply_cli.errors import UsageError

    lines, out = cut_lines(tmp_path), tmp_path / "out.jsonl"
    out.unlink(missing_ok=True)
    answer(out, lines)
    data = b"".join(out.read_bytes().splitlines(keepends=True)[:kept]) + foreign
    out.write_bytes(data)
    if foreign in (b"{", b'{"'):
        return
    with pytest.raises(UsageError, match="contains"):
        answer(out, lines)
    assert out.read_bytes() == data


def test_answers_that_the_token_limit_cut_are_retried_with_a_larger_one(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("How do I list my models?\nthanks\n")
    command = (
        "run",
        "-m",
        "guide",
        "--batch",
        tmp_path / "in.txt",
        "--out",
        tmp_path / "out.jsonl",
        "--temperature",
        "0",
    )
    first = lmsupply(*command, "--max-tokens", "8")
    assert (first.code, "1 of them cut by max_tokens" in first.err) == (0, True)
    assert "0 answered, 2 already there" in lmsupply(*command, "--max-tokens", "8", "--retry-failed").err
    assert "1 answered, 1 already there" in lmsupply(*command, "--max-tokens", "40", "--retry-failed").err
    reasons = [json.loads(line)["finish_reason"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert reasons == ["stop", "stop"]
