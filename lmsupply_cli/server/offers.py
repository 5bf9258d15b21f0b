"""The tools and the tool choice of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lmsupply_cli.chat.tools.spec import ToolRequest, ToolSpec
from lmsupply_cli.errors import UsageError, did_you_mean
from lmsupply_cli.server.errors import as_api_error, bad_field


@dataclass(frozen=True, slots=True)
class Offers:
    """For the fields of AnswerRequest with these names."""

    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str | Mapping[str, Any] = "auto"

    @property
    def callable(self) -> bool:
        """Whether the answer may call a tool."""
        return bool(self.tools) and self.tool_choice != "none"


def read_tools(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[ToolSpec, ...]:
    """Tools in any form of `ToolSpec.of`, each with the path of its field. Raises ApiError that names the field."""
    specs: dict[str, ToolSpec] = {}
    for param, row in rows:
        try:
            spec = ToolSpec.of(row)
        except UsageError as error:
            raise as_api_error(error, param=param) from error
        if spec.name in specs:
            raise bad_field(param, f"{param}: two tools are named {spec.name}")
        specs[spec.name] = spec
    return tuple(specs.values())


def named(tool: str) -> dict[str, Any]:
    """The choice of this tool."""
    return {"type": "function", "function": {"name": tool}}


def offer(
    tools: tuple[ToolSpec, ...],
    choice: str | Mapping[str, Any] | None = None,
    *,
    allowed: Iterable[str] | None = None,
    param: str = "tool_choice",
) -> Offers:
    """`choice`: auto (also None), required, none, or `named`; `allowed`: the names of those that may be called, None for
    all. Raises ApiError."""
    if allowed is not None:
        tools = _only(tools, list(allowed), param)
    choice = "auto" if choice is None else choice
    try:
        ToolRequest.of(tools, choice)
    except UsageError as error:
        raise as_api_error(error, param=param) from error
    return Offers(tools, choice)


def _only(tools: tuple[ToolSpec, ...], allowed: list[str], param: str) -> tuple[ToolSpec, ...]:
    names = [tool.name for tool in tools]
    for name in allowed:
        if name not in names:
            near = did_you_mean(name, names, "tools: " + (", ".join(names) or "none"))
            raise bad_field(param, f"{param}: there is no tool {name!r} ({near})")
    return tuple(tool for tool in tools if tool.name in allowed)
