"""Which added tokens steer a model, and that no message holds one, on real vocabularies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli.chat.control import ControlTokenEscaper, control_strings
from lmsupply_cli.chat.formats import FAMILIES, family_of
from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.engine.tokenizer import encode_with, load_library

EXTRACTS = sorted(
    path for path in (Path(__file__).parent.parent / "data" / "tokenizers").glob("*.json") if path.stem != "expected"
)


def row(content: str, special: bool = False) -> dict[str, Any]:
    return {"id": 1, "content": content, "special": special}


@pytest.mark.parametrize(
    ("content", "steers"),
    [
        ("<think>", True), ("</tool_call>", True), ("<|fim_prefix|>", True), ("<｜User｜>", True), ("[INST]", True),
        ("<h1>", False), ("</table>", False), ("\n\n", False), ("▁▁", False), ("    ", False), ("<unused7>", False),
    ],
)  # fmt: skip
def test_white_space_and_html_are_plain_text_and_marks_steer(content: str, steers: bool) -> None:
    assert (content in control_strings([row(content)])) is steers


def test_what_is_special_or_written_by_the_template_steers() -> None:
    assert control_strings([row("<turn>", special=True)]) == {"<turn>"}
    assert control_strings([row("<turn>")], template="{{ '<turn>' + m.content }}") == {"<turn>"}
    assert control_strings([row("</s>")], special=["</s>"]) == {"</s>"}
    assert control_strings([row("<turn>")]) == frozenset()
    assert control_strings([row("\n\n")], template="a\n\nb") == frozenset()


@pytest.mark.parametrize("path", EXTRACTS, ids=[path.stem for path in EXTRACTS])
def test_no_message_holds_a_control_token(path: Path) -> None:
    rows = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
    control = control_strings(rows)
    library = load_library(path)
    own = PromptFormat(FAMILIES[family_of(control)](control), control)

    def ids(text: str) -> tuple[int, ...]:
        talk = [ChatMessage.user(text), ChatMessage.assistant("ok"), ChatMessage.user(text)]
        return own.chat(talk, lambda part: encode_with(library, part)).ids

    plain = ids("x")
    steering = [one for one in rows if one["content"] in control]
    assert steering
    for one in steering:
        content = one["content"]
        for text in (content, f"a{content}b", content * 2, f"{content[:1]}{content}{content[1:]}", content.upper()):
            assert ids(text).count(one["id"]) == plain.count(one["id"]), text


def test_the_thought_that_begins_an_answer_keeps_its_marks() -> None:
    escaper = ControlTokenEscaper(["<think>", "</think>", "<|im_end|>"])

    def shown(message: ChatMessage) -> str:
        return escaper.messages([message])[0].content.replace(escaper.sentinel, "·")

    thought = "<think>\nhmm <|im_end|>\n</think>\n\nanswer </think>"
    assert shown(ChatMessage.assistant(thought)) == "<think>\nhmm <·|im_end|>\n</think>\n\nanswer <·/think>"
    assert shown(ChatMessage.assistant("hmm\n</think>\n\nanswer")) == "hmm\n</think>\n\nanswer"
    assert shown(ChatMessage.assistant("say <think> now")) == "say <·think> now"
    assert shown(ChatMessage.user(thought)).count("·") == 4
