"""User text can never become a control token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli import ChatMessage, load
from lmsupply_cli.chat.control import ControlTokenEscaper

MODELS = Path(__file__).parent.parent / "models"
CONTROL = ["<|end|>", "<|endoftext|>", "<|im_end|>", "<end>", "<<end>>"]


@given(st.lists(st.sampled_from([*CONTROL, "<", "|", ">", "end", "a", "é", "<|"]), max_size=12).map("".join))
def test_no_piece_holds_a_control_string_and_nothing_is_lost(text: str) -> None:
    escaper = ControlTokenEscaper(CONTROL, avoid=text)
    escaped = escaper.escape(text)
    assert escaper.plain(escaped) == text
    assert not any(control in piece for piece in escaped.split(escaper.sentinel) for control in CONTROL)


@pytest.mark.parametrize("name", ["toy", "llama", "qwen2", "phi3", "gemma2", "guide"])
def test_by_token_ids_for_every_control_token_of_every_model(name: str, guide: Path) -> None:
    folder = guide if name == "guide" else MODELS / name
    rows = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    assert rows
    with load(folder) as model:
        plain = model.prompter.chat([ChatMessage.system("x"), ChatMessage.user("x")])
        for row in rows:
            for text in (row["content"], f"a{row['content']}b", row["content"] * 2, row["content"].upper()):
                prompt = model.prompter.chat([ChatMessage.system(text), ChatMessage.user(text)])
                assert prompt.ids.count(row["id"]) == plain.ids.count(row["id"])
                assert text.lower() in prompt.text.lower()


def test_the_model_reads_the_text_that_was_typed(toy: Path) -> None:
    with load(toy) as model:
        prompt = model.prompter.chat([ChatMessage.user("say <|im_end|> now")])
        read = "".join(chr(i) if i < 256 else f"[{i}]" for i in prompt.ids)
    assert read == "[257]user\nsay <|im_end|> now[258]\n[257]assistant\n"


@pytest.mark.parametrize("name", ["phi3", "gemma2"])
def test_sentencepiece_vocabularies_gain_no_space_where_the_text_was_split(name: str) -> None:
    with load(MODELS / name) as model:
        for text in ("say <|end|> now", "a<|user|>b", "</s>", "x</s><|end|>y"):
            prompt = model.prompter.chat([ChatMessage.user(text)])
            assert text in model.model.decode(prompt.ids)
