"""Each family's format gives the text of its official template.

tests/data/chat_prompts.json holds the conversations and what the official templates of Phi-3.5, Phi-4-mini,
Phi-4, Llama 3.2 (on 3 October 2026), Qwen2.5, Qwen3, Mistral 7B v0.2 and v0.3, Mistral Nemo, Gemma 2 and 3 and
DeepSeek-R1-Distill render for them with a generation prompt; for Mistral v0.2, which refuses
a system message, it was folded into the first user message; Gemma 2, which does too, has no such conversations.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from lmsupply_cli.chat.formats import FAMILIES, choose_formatter, family_of
from lmsupply_cli.chat.formats.families import Llama3, Qwen
from lmsupply_cli.chat.formatter import ChatFormatter
from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.config.table import CHAT_FORMATS
from lmsupply_cli.errors import ModelFilesError, UsageError

DATA = json.loads((Path(__file__).parent.parent / "data" / "chat_prompts.json").read_text(encoding="utf-8"))
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
MADE: dict[str, Callable[[], ChatFormatter]] = {
    "llama3": lambda: Llama3(date(2026, 10, 3)),
    "qwen3": lambda: Qwen(can_think=True),
    "gemma3": lambda: FAMILIES["gemma"](()),
}


def conversation(name: str) -> list[ChatMessage]:
    return [ChatMessage(ChatRole(role), content) for role, content in DATA["conversations"][name]]


@pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family, found in DATA["expected"].items() for name in found if ":" not in name],
)
def test_as_the_official_template(family: str, name: str) -> None:
    formatter = MADE[family]() if family in MADE else FAMILIES[family](())
    assert formatter.render(conversation(name)) == DATA["expected"][family][name]


def test_there_are_enough_conversations() -> None:
    assert all(len(found) >= 8 for family, found in DATA["expected"].items() if family != "gemma")


def test_an_empty_thought_keeps_qwen3_from_thinking() -> None:
    found = Qwen(can_think=True, enable_thinking=False).render(conversation("user"))
    assert found == DATA["expected"]["qwen3"]["user:no_think"]


@pytest.mark.parametrize(
    ("control", "vocabulary", "model_type", "family"),
    [
        (["<|im_start|>", "<|im_sep|>", "<|im_end|>"], 100352, "phi3", "phi4"),
        (["<|end|>", "<|user|>"], 200064, "phi3", "phi4-mini"),
        (["<|end|>", "<|user|>"], 32064, "phi3", "phi3"),
        (["<|start_header_id|>"], 128256, "llama", "llama3"),
        (["<start_of_turn>"], 256000, "gemma2", "gemma"),
        (["[INST]", "</s>"], 32768, "mistral", "mistral-v3"),
        (["[INST]", "</s>"], 131072, "mistral", "mistral-tekken"),
        (["<s>", "</s>"], 32000, "mistral", "mistral-v1"),
        (["<｜User｜>", "<|im_start|>"], 151936, "qwen2", "deepseek-r1"),
        (["<|im_start|>"], 151936, "qwen2", "qwen"),
        (["<|im_start|>"], 49152, "llama", "chatml"),
        (["<s>", "</s>"], 32000, "llama", "generic"),
        ([], 0, "", "generic"),
    ],
)
def test_the_vocabulary_tells_the_family(control: list[str], vocabulary: int, model_type: str, family: str) -> None:
    chosen = choose_formatter(None, control, SPECIAL, vocabulary=vocabulary, model_type=model_type)
    assert chosen.formatter.name == family_of(control, vocabulary=vocabulary, model_type=model_type) == family
    assert not chosen.note


def test_the_thoughts_of_qwen3_are_known_by_its_vocabulary() -> None:
    found = choose_formatter(None, ["<|im_start|>", "<think>"], SPECIAL, model_type="qwen3").formatter
    assert isinstance(found, Qwen)
    assert found.can_think


def test_a_failing_template_is_said_and_the_family_serves() -> None:
    for broken in ("{% if %}", "{{ raise_exception('no') }}"):
        chosen = choose_formatter(broken, ["<|im_start|>"], SPECIAL)
        assert chosen.formatter.name == "chatml"
        assert "template" in chosen.note
        assert "chatml is used" in chosen.note
        with pytest.raises(ModelFilesError):  # no family is known: never raw text
            choose_formatter(broken, [], SPECIAL)
        with pytest.raises(ModelFilesError):  # asked for by name
            choose_formatter(broken, ["<|im_start|>"], SPECIAL, wanted="template")


def test_a_wish_is_kept_or_refused() -> None:
    assert choose_formatter("{{ 1 }}", [], SPECIAL, wanted="gemma").formatter.name == "gemma"
    assert choose_formatter("{{ 1 }}", [], SPECIAL, wanted="template").formatter.name == "template"
    with pytest.raises(UsageError, match="no chat template"):
        choose_formatter(None, [], SPECIAL, wanted="template")
    with pytest.raises(UsageError, match="unknown chat format 'x'"):
        choose_formatter(None, [], SPECIAL, wanted="x")


def test_a_template_ends_where_its_family_does() -> None:
    found = choose_formatter("{{ 1 }}", ["<|im_start|>", "<|im_end|>"], SPECIAL).formatter
    assert "<|im_end|>" in found.stop_tokens


def test_the_setting_knows_every_family() -> None:
    assert tuple(FAMILIES) == CHAT_FORMATS
