"""Reasoning in `run` and `chat`: the toy counts on from a prompt that opens a thought, so all that it says is one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from support.cli import lmsupply

MODELS = Path(__file__).parent.parent / "models"
PROMPT = "{{ messages[-1].content }}{% if enable_thinking is defined and not enable_thinking %} <think></think>{% else %}<think>{% endif %}"
ASK = ("--temperature", "0", "--max-tokens", "5")  # after ">" come ?@ABC


@pytest.fixture
def thinker(tmp_path: Path) -> str:
    folder = shutil.copytree(MODELS / "toy", tmp_path / "thinker")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": PROMPT}))
    return str(folder)


def test_thoughts_go_to_stderr(thinker: str) -> None:
    result = lmsupply("run", "-m", thinker, "x", *ASK)
    assert result.out == ""
    assert "?@ABC" in result.err


def test_hidden_thoughts_go_nowhere(thinker: str) -> None:
    result = lmsupply("run", "-m", thinker, "x", *ASK, "--think", "hide")
    assert "?@ABC" not in result.out + result.err


def test_a_model_that_is_kept_from_thinking_answers(thinker: str) -> None:
    result = lmsupply("run", "-m", thinker, "x", *ASK, "--think", "off")
    assert result.out == "?@ABC\n"
    assert "</think>" in lmsupply("run", "-m", thinker, "--show-prompt", "x", "--think", "off").out


def test_in_json(thinker: str) -> None:
    found = lmsupply("run", "-m", thinker, "x", *ASK, "--json").json
    assert (found["text"], found["reasoning"]) == ("", "?@ABC")
    rows = [json.loads(line) for line in lmsupply("run", "-m", thinker, "x", *ASK, "--stream-json").out.splitlines()]
    assert "".join(row["text"] for row in rows if row["type"] == "reasoning") == "?@ABC"
    assert not any(row["type"] == "delta" for row in rows)


def test_what_a_format_cannot_do_is_said(thinker: str) -> None:
    result = lmsupply("run", "-m", thinker, "x", *ASK, "--reasoning-effort", "low")
    assert "note: --reasoning-effort has no effect" in result.err
    result = lmsupply("run", "-m", "guide", "hello", "--think", "off")
    assert "note: --think off has no effect: this model has no thinking mode" in result.err


def test_switching_thinking_keeps_the_effort() -> None:
    from lmsupply_cli.chat.formats.template import Template
    from lmsupply_cli.chat.messages import ChatMessage
    from lmsupply_cli.chat.reasoning import Markers
    from lmsupply_cli.loading.formats import with_thinking

    markers = Markers("think", frozenset())
    template = Template("{{ enable_thinking }} {{ reasoning_effort }}", {})
    low, refused = with_thinking(template, markers, enable=True, effort="low")
    off, _ = with_thinking(low, markers, enable=False)
    on, _ = with_thinking(off, markers, enable=True)
    assert not refused
    assert [f.render([ChatMessage.user("x")]) for f in (low, off, on)] == [" low", "False low", " low"]


def test_the_chat_format_can_be_chosen() -> None:
    shown = lmsupply("run", "-m", "guide", "--chat-format", "gemma", "--show-prompt", "Hi").out
    assert shown == "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    assert lmsupply("run", "-m", "guide", "--chat-format", "nonsense", "Hi").code == 2


def test_a_failing_template_is_said_and_the_family_serves(tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / "toy", tmp_path / "broken")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ nothing.at.all }}"}))
    result = lmsupply("run", "-m", str(folder), "x", *ASK)
    assert result.code == 0
    assert "note: the model's chat template fails" in result.err
    assert "the format chatml is used" in result.err


def test_marks_that_are_control_tokens_are_seen(tmp_path: Path) -> None:
    """The detokenizer leaves control tokens out; those that mark thoughts must come through."""
    from lmsupply_cli import ReasoningDelta, TextDelta, load

    folder = shutil.copytree(MODELS / "toy", tmp_path / "marked")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] += [
        tokenizer["added_tokens"][0] | {"id": 259 + n, "content": text}
        for n, text in enumerate(["<think>", "</think>"])
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config | {"chat_template": "{{ messages[0].content }}<|im_end|>"})
    )
    with load(folder) as model:
        assert model.model.decode([65, 259, 66, 260]) == "A<think>B</think>"
        events = list(model.stream("x", temperature=0, max_tokens=4))  # the next tokens are 259, 260, 261 …
        assert not any(isinstance(e, (TextDelta, ReasoningDelta)) and "think" in e.text for e in events)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_thoughts_in_a_chat(thinker: str) -> None:
    from support.chat import Chat

    chat = Chat(thinker, *ASK)
    chat.ask("x")
    assert b"\x1b[2m?" in chat.raw, "dimmed"
    assert "Thinking on, not shown." in chat.ask("/think hide")
    shown = chat.ask("x")
    assert "?@ABC" not in shown
    assert "Thinking off." in chat.ask("/think off")
    assert "?@ABC" in chat.ask("x")
    assert "Thinking is off." in chat.ask("/think")
    chat.leave()
