"""The tools of POST /v1/messages, and the choice among them.

Tools that Anthropic's server runs (web_search_…, code_execution_…) and those whose schema only its models know (bash_…,
text_editor_…, computer_…) are refused: a model that was told of a search without being able to search would make results
up.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lmsupply_cli.server.body import Form, Part, told_by_type, unsupported
from lmsupply_cli.server.offers import Offers, named, offer, read_tools


class ClientTool(Part):
    """A tool of the caller. `strict`: its schema is enforced or refused, else as far as possible."""

    type: Literal["custom"] = "custom"
    name: str
    description: str = ""
    input_schema: dict[str, Any]
    strict: bool = False
    input_examples: list[dict[str, Any]] = Field(default_factory=list)
    no_effect = frozenset({"cache_control", "allowed_callers", "defer_loading", "eager_input_streaming"})

    def as_row(self) -> dict[str, Any]:
        """For `ToolSpec.of`. Examples are shown with the description."""
        shown = [json.dumps(one, ensure_ascii=False) for one in self.input_examples]
        text = "\n".join([self.description, *(f"Example: {one}" for one in shown)]).strip()
        return {"name": self.name, "description": text, "input_schema": self.input_schema, "strict": self.strict}


def _only_of_the_caller(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "custom":
        raise unsupported("type", f"{kind} is not supported: only tools with an input_schema of their own are")
    return value


Tool = Annotated[ClientTool, BeforeValidator(_only_of_the_caller)]


class AnyChoice(Part):
    """Whether a tool is called."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool = False


class NamedChoice(Part):
    """The tool that must be called."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool = False


ToolChoice = Annotated[
    Annotated[AnyChoice, Form("any")] | Annotated[NamedChoice, Form("tool")],
    told_by_type("auto", "any", "tool", "none", alike={"auto": "any", "none": "any"}),
]


def offers_of(tools: Sequence[ClientTool], choice: AnyChoice | NamedChoice | None) -> Offers:
    """Raises ApiError that names the field."""
    specs = read_tools((f"tools[{number}]", tool.as_row()) for number, tool in enumerate(tools))
    if isinstance(choice, NamedChoice):
        return offer(specs, named(choice.name))
    return offer(specs, {"any": "required"}.get(choice.type, choice.type) if choice else None)
