"""The tools of POST /v1/responses, and the choice among them.

Agents offer OpenAI's own tools to every server. Those that they do without are skipped; `tools` in the response shows what
is left. Tools that hold data of the caller, such as the address of an MCP server, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from lmsupply_cli.server.body import MOST_TOOLS, Form, Part, refuses, told_by, told_by_type
from lmsupply_cli.server.offers import Offers, named, offer, read_tools

_SKIPPED = (
    "web_search",
    "web_search_preview",
    "image_generation",
    "custom",
    "local_shell",
    "shell",
    "apply_patch",
    "tool_search",
    "programmatic_tool_calling",
)
_VERSIONS = ("web_search_2025_08_26", "web_search_preview_2025_03_11")
_NOT_HERE = "the server runs no tools; offer a function and run it yourself"
_LONGEST_NAME = 64


class FunctionTool(Part):
    """A function of the caller. `strict`: its schema is enforced or refused, else as far as possible."""

    type: Literal["function"]
    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False
    no_effect = frozenset({"async", "allowed_callers", "defer_loading", "output_schema"})


class SkippedTool(Part):
    """A tool of OpenAI's."""

    model_config = ConfigDict(extra="allow")
    type: str


class NamespaceTool(Part):
    """Functions that share the first part of their name."""

    type: Literal["namespace"]
    name: str
    description: str = ""
    tools: list[
        Annotated[
            Annotated[FunctionTool, Form("function")] | Annotated[SkippedTool, Form("custom")],
            told_by_type("function", "custom"),
        ]
    ] = Field(max_length=MOST_TOOLS)


Tool = Annotated[
    Annotated[FunctionTool, Form("function")]
    | Annotated[NamespaceTool, Form("namespace")]
    | Annotated[SkippedTool, Form("skipped")],
    told_by_type("function", "namespace", *_SKIPPED, alike=dict.fromkeys((*_SKIPPED, *_VERSIONS), "skipped")),
    refuses(dict.fromkeys(("mcp", "file_search", "code_interpreter", "computer", "computer_use_preview"), _NOT_HERE)),
]


class NamedChoice(Part):
    """The tool that must be called."""

    type: Literal["function", "custom"]
    name: str
    namespace: str = ""


class AllowedChoice(Part):
    """The tools that may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedChoice]


def _choice_form(value: Any) -> str | None:
    if isinstance(value, str):
        return "word"
    kind = value.get("type") if isinstance(value, dict) else None
    return "named" if kind in ("function", "custom") else "allowed" if kind == "allowed_tools" else None


ToolChoice = Annotated[
    Annotated[Literal["auto", "none", "required"], Form("word")]
    | Annotated[NamedChoice, Form("named")]
    | Annotated[AllowedChoice, Form("allowed")],
    told_by(_choice_form, "auto, none, required, or an object of the type function or allowed_tools"),
]


@dataclass(frozen=True)
class Functions:
    """The functions of a request: `rows` of (path of the field, name here, the tool), and the namespace and name that
    a client knows each by."""

    rows: tuple[tuple[str, str, FunctionTool], ...] = ()
    known_as: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, tools: Sequence[FunctionTool | NamespaceTool | SkippedTool]) -> Functions:
        """Those of namespaces get one name of both parts. One that would be too long or not unique is skipped."""
        rows = list(_plain(tools))
        known_as = {tool.name: ("", tool.name) for _, _, tool in rows}
        for path, space, tool in _spaced(tools):
            name = flat_name(space.name, tool.name)
            if len(name) <= _LONGEST_NAME and name not in known_as:
                known_as[name] = (space.name, tool.name)
                described = tool if tool.description else tool.model_copy(update={"description": space.description})
                rows.append((path, name, described))
        return cls(tuple(rows), known_as)

    def offers(self, choice: str | NamedChoice | AllowedChoice | None) -> Offers:
        """Raises ApiError that names the field."""
        specs = read_tools(
            (
                path,
                {"name": name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict},
            )
            for path, name, tool in self.rows
        )
        if isinstance(choice, NamedChoice):
            return offer(specs, named(flat_name(choice.namespace, choice.name)))
        if isinstance(choice, AllowedChoice):
            return offer(specs, choice.mode, allowed=[flat_name(one.namespace, one.name) for one in choice.tools])
        return offer(specs, choice)


def shown(tools: Sequence[FunctionTool | NamespaceTool | SkippedTool]) -> list[dict[str, Any]]:
    """The tools that are not skipped, as a response repeats them."""
    rows = []
    for tool in tools:
        if isinstance(tool, FunctionTool):
            rows.append(tool.model_dump())
        elif isinstance(tool, NamespaceTool):
            rows.append(tool.model_dump(exclude={"tools"}) | {"tools": shown(tool.tools)})
    return rows


def flat_name(namespace: str, name: str) -> str:
    """What a function of a namespace is called here."""
    return f"{namespace}{'' if not namespace or namespace.endswith('_') else '__'}{name}"


def _plain(tools: Sequence[Any]) -> Iterator[tuple[str, str, FunctionTool]]:
    for number, tool in enumerate(tools):
        if isinstance(tool, FunctionTool):
            yield f"tools[{number}]", tool.name, tool


def _spaced(tools: Sequence[Any]) -> Iterator[tuple[str, NamespaceTool, FunctionTool]]:
    for number, space in enumerate(tools):
        for inner, tool in enumerate(space.tools if isinstance(space, NamespaceTool) else ()):
            if isinstance(tool, FunctionTool):
                yield f"tools[{number}].tools[{inner}]", space, tool
