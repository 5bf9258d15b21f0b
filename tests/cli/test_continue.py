from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from support.cli import lmsupply

QUESTION = "How do I list my models?"


def last() -> Path:
    return Path(os.environ["LMSUPPLY_HOME"]) / "state" / "runs" / "last.json"


def test_a_run_continues_the_last_one() -> None:
    first = lmsupply("run", "-m", "guide", "-s", "Be short.", QUESTION).out.strip()
    prompt = lmsupply("run", "-c", "--show-prompt", "thanks").out
    assert prompt.startswith(
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nhow do i list my models?<|im_end|>"
    )
    assert first in prompt
    assert prompt.endswith("<|im_start|>user\nthanks<|im_end|>\n<|im_start|>assistant\n")
    second = lmsupply("run", "-c", "thanks")
    assert second.out == "You are welcome!\n"
    assert "no model is installed" not in second.err
    third = lmsupply("run", "-c", "-s", "Be long.", "--show-prompt", "bye").out
    assert third.count("<|im_start|>user") == 3
    assert "Be long." in third
    assert "Be short." not in third


def test_only_the_owner_can_read_the_last_run() -> None:
    lmsupply("run", "-m", "guide", QUESTION)
    last().chmod(0o644)  # as an earlier version left it
    lmsupply("run", "-m", "guide", QUESTION)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (last(), last().parent)] == [0o600, 0o700]


def test_it_continues_a_chat_that_is_newer() -> None:
    lmsupply("run", "-m", "guide", QUESTION)
    chats = last().parent.parent / "sessions"
    chats.mkdir()
    rows = [
        {"type": "session", "schema": 1, "created": "2026-01-01", "model": "guide"},
        {"type": "message", "role": "user", "content": "from the chat"},
        {"type": "message", "role": "assistant", "content": "yes"},
    ]
    (chats / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "from the chat" in lmsupply("run", "-c", "--show-prompt", "thanks").out
    os.utime(last(), (2**31, 2**31))
    assert "how do i list" in lmsupply("run", "-c", "--show-prompt", "thanks").out


def test_what_is_not_kept_cannot_be_continued() -> None:
    lmsupply("run", "-m", "guide", "--no-save", "hi")
    lmsupply("run", "-m", "guide", "hi", LMSUPPLY_SAVE_SESSIONS="off")
    lmsupply("run", "-m", "guide", "--raw", "hi")
    nothing = lmsupply("run", "-c", "thanks")
    assert (nothing.code, nothing.out) == (2, "")
    assert "nothing to continue" in nothing.err
    assert lmsupply("run", "-c", "--raw", "thanks").code == 2


def test_a_damaged_record_is_no_record() -> None:
    last().parent.mkdir(parents=True)
    for text in ("{", "[]", '{"model": "guide", "messages": []}', '{"model": "guide", "messages": [{"role": "x"}]}'):
        last().write_text(text)
        assert "nothing to continue" in lmsupply("run", "-c", "thanks").err


def test_a_full_context_drops_the_oldest_turns() -> None:
    lmsupply("run", "-m", "guide", "word " * 300)
    again = lmsupply("run", "-c", "--context", "256", "thanks")
    assert again.code == 0
    assert "dropped" in again.err


def test_a_dry_run_and_the_shown_prompt_are_those_of_the_run(toy: Path) -> None:
    lmsupply("add", toy, "--alias", "one")
    lmsupply("add", toy, "--alias", "two")
    lmsupply("run", "-m", "two", "--max-tokens", "1", "word")
    lmsupply("run", "-m", "one", "--no-save", "--max-tokens", "1", "x")
    plan = lmsupply("run", "-c", "--dry-run", "--json").json
    assert plan["plan"]["model"] == "two"
    shown = lmsupply("run", "-c", "--show-prompt", "x")
    assert "continuing with two: word" in shown.err
    lmsupply("run", "-m", "guide", "word " * 300)
    assert lmsupply("run", "-c", "--context", "256", "--show-prompt", "thanks").code == 0


def test_a_record_of_another_version_is_no_record() -> None:
    lmsupply("run", "-m", "guide", QUESTION)
    last().write_text(last().read_text().replace('"schema": 1', '"schema": 9'))
    assert "nothing to continue" in lmsupply("run", "-c", "thanks").err
