"""docs/server.md says of every field of a request what becomes of it, and names no field that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lmsupply_cli.server.anthropic.body import MessagesBody
from lmsupply_cli.server.body import Body
from lmsupply_cli.server.openai.chat_body import ChatBody
from lmsupply_cli.server.openai.completions_body import CompletionBody
from lmsupply_cli.server.openai.responses_body import ResponsesBody

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
BODIES = {
    "OpenAI: chat completions": ChatBody,
    "OpenAI: completions": CompletionBody,
    "OpenAI: responses": ResponsesBody,
    "Anthropic: messages": MessagesBody,
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def fields_of(body: type[Body]) -> set[str]:
    named = {field.alias or name for name, field in body.model_fields.items()}
    return named | body.no_effect | body.unsupported.keys()


@pytest.mark.parametrize(("title", "body"), BODIES.items(), ids=BODIES)
def test_every_field_is_explained(title: str, body: type[Body]) -> None:
    text = section(title)
    if title == "OpenAI: completions":
        text += section("OpenAI: chat completions")  # "the others that chat completions ignore"
    assert sorted(name for name in fields_of(body) if f"`{name}`" not in text) == []


@pytest.mark.parametrize(("title", "body"), BODIES.items(), ids=BODIES)
def test_no_other_field_is_named(title: str, body: type[Body]) -> None:
    rows = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert sorted(named - fields_of(body)) == []
