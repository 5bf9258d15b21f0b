"""Which of a folder's files says what about its chat, and what is said of those that cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lmsupply_cli.chat.special import read_chat_files, special_texts

CONFIG, FILE = "tokenizer_config.json", "chat_template.jinja"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    config = {"chat_template": "TEMPLATE", "bos_token": "<s>", "eos_token": {"content": "</s>"}}
    (tmp_path / CONFIG).write_text("\ufeff" + json.dumps(config), encoding="utf-8")
    found = read_chat_files(tmp_path)
    assert (found.template, found.special, found.notes) == ("TEMPLATE", {"bos_token": "<s>", "eos_token": "</s>"}, ())
    (tmp_path / FILE).write_text("\ufeffOWN\n", encoding="utf-8")
    assert read_chat_files(tmp_path).template == "OWN\n"


def test_missing_files_are_no_fault(tmp_path: Path) -> None:
    found = read_chat_files(tmp_path)
    assert (found.template, found.special, found.notes) == (None, {}, ())


def test_a_file_of_its_own_wins_over_the_config_and_that_over_the_processor(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text('{"chat_template": "processor"}')
    assert read_chat_files(tmp_path).template == "processor"
    (tmp_path / CONFIG).write_text('{"chat_template": "config"}')
    assert read_chat_files(tmp_path).template == "config"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    assert read_chat_files(tmp_path).template == "config"
    (tmp_path / "additional_chat_templates" / "default.jinja").write_text("additional")
    assert read_chat_files(tmp_path).template == "additional"
    (tmp_path / FILE).write_text("file")
    assert read_chat_files(tmp_path).template == "file"


@pytest.mark.parametrize(
    "several",
    [
        [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}],
        {"tool_use": "no", "default": "yes"},
    ],
)
def test_of_several_templates_the_default_counts(tmp_path: Path, several: object) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"chat_template": several}))
    assert read_chat_files(tmp_path).template == "yes"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\xfe{", "is not text in UTF-8"),
        (b"[1]", "is no JSON object"),
        (b"[" * 100_000 + b"]" * 100_000, "is nested too deeply"),
        (b'{"chat_template": 7}', "is no text"),
        (b'{"chat_template": {"tool_use": "x"}}', "none of them named default"),
    ],
)
def test_what_is_there_and_cannot_be_used_is_said(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / CONFIG).write_bytes(data)
    found = read_chat_files(tmp_path)
    assert found.template is None
    (note,) = found.notes
    assert said in note
    assert CONFIG in note
    assert note.endswith("left out")


def test_a_template_file_that_cannot_be_read_gives_way_with_a_note(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text('{"chat_template": "config"}')
    (tmp_path / FILE).write_bytes(b"\xff\xff")
    found = read_chat_files(tmp_path)
    assert found.template == "config"
    assert "chat_template.jinja is not text in UTF-8" in found.notes[0]
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    assert read_chat_files(tmp_path).template == "config"
    assert read_chat_files(tmp_path).notes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / FILE).symlink_to("/dev/zero")
    found = read_chat_files(tmp_path)
    assert found.template is None
    assert "not a regular file" in found.notes[0]


def test_special_tokens_are_all_named_ones_as_text() -> None:
    settings = {
        "bos_token": {"content": "<s>", "lstrip": False},
        "eos_token": None,
        "pad_token": "<pad>",
        "add_bos_token": True,
        "image_token": "<img>",
        "extra_special_tokens": {"boi_token": "<boi>"},
        "model_max_length": 5,
    }
    assert special_texts(settings) == {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "image_token": "<img>",
        "boi_token": "<boi>",
    }


def test_an_older_folder_keeps_its_special_tokens_apart(tmp_path: Path) -> None:
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<apart>"}}')
    (tmp_path / CONFIG).write_text('{"bos_token": "<config>"}')
    assert read_chat_files(tmp_path).special == {"bos_token": "<apart>"}
    (tmp_path / CONFIG).write_text('{"bos_token": "<config>", "added_tokens_decoder": {}}')
    assert read_chat_files(tmp_path).special == {"bos_token": "<config>"}
