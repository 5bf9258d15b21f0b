"""Tools that a model may call, and the wish that it calls one, none or any."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmsupply_cli.chat.tools.signature import function_schema
from lmsupply_cli.errors import UsageError, did_you_mean

WORDS = ("auto", "required", "none")
MOST_CALLS = 16  # of one answer: a weak model repeats itself without end
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEYS = frozenset({"name", "description", "parameters", "input_schema", "inputSchema", "strict"})
_FORMS = "give a typed function, a Pydantic model, or a dict with name, description and parameters (a JSON schema)"


@dataclass(frozen=True)
class ToolSpec:
    """A tool. `parameters`: a JSON schema of an object, as in `Guidance.json_schema`; `function`: what `run_tools` calls
    with the arguments by name; `strict`: a schema that cannot be enforced is an error, else only what can be is.

    >>> from lmsupply import ToolSpec
    >>> tool = ToolSpec("add", "Add two numbers.", {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]})
    >>> print(tool.as_dict()["function"]["name"])
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    function: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    strict: bool = True

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise UsageError(f"{self.name!r} is no name of a tool", hint="use letters, digits, _, - and ., at most 64")
        if not isinstance(self.description, str):
            raise UsageError(f"the description of the tool {self.name} must be text")
        object.__setattr__(self, "parameters", _object_schema(self.parameters, self.name))

    @classmethod
    def of(cls, tool: Any) -> ToolSpec:
        """A tool from a typed function, a Pydantic model (its fields are the parameters) or a dict, in the form of
        OpenAI (`{"type": "function", "function": {…}}`), Anthropic (`input_schema`) or MCP (`inputSchema`). Raises
        UsageError for another thing, an unknown key, and a parameter that JSON cannot give."""
        if isinstance(tool, ToolSpec):
            return tool
        if isinstance(tool, Mapping):
            return cls._of_mapping(tool)
        if hasattr(tool, "model_json_schema"):
            text = inspect.cleandoc(tool.__doc__ or "").split("\n")[0]
            return cls(tool.__name__, text, tool.model_json_schema())
        if callable(tool) and hasattr(tool, "__name__") and not isinstance(tool, type):
            text, parameters = function_schema(tool)
            return cls(tool.__name__, text, parameters, tool)
        raise UsageError(f"{tool!r} is no tool", hint=_FORMS)

    @classmethod
    def _of_mapping(cls, given: Mapping[str, Any]) -> ToolSpec:
        row = dict(given)
        if (kind := row.pop("type", "function")) not in ("function", "custom") or (
            kind == "custom" and "input_schema" not in row
        ):
            raise UsageError(f"a tool of the type {kind!r} is not supported", hint=_FORMS)
        if "function" in row:
            inner = row.pop("function")
            if row or not isinstance(inner, Mapping):
                raise UsageError(f"{given!r} is no tool", hint=_FORMS)
            row = dict(inner)
        if unknown := sorted(set(row) - _KEYS):
            raise UsageError(f"a tool has no key {unknown[0]!r}", hint="keys: name, description, parameters")
        schemas = [row[key] for key in ("parameters", "input_schema", "inputSchema") if row.get(key) is not None]
        if len(schemas) > 1:
            raise UsageError(f"the tool {row.get('name')!r} has two schemas", hint="leave one out")
        more = {"parameters": schemas[0]} if schemas else {}
        return cls(row.get("name", ""), row.get("description") or "", strict=row.get("strict") is not False, **more)

    def as_dict(self) -> dict[str, Any]:
        """In the form of OpenAI, which chat templates read too."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


def _object_schema(schema: Any, name: str) -> dict[str, Any]:
    """As plain JSON values. Raises UsageError for a schema that is not of an object."""
    if not isinstance(schema, Mapping):
        raise UsageError(f"the parameters of the tool {name} must be a JSON schema")
    try:
        whole: dict[str, Any] = json.loads(json.dumps(dict(schema), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the parameters of the tool {name} are no JSON: {error}") from error
    if whole.setdefault("type", "object") != "object":
        raise UsageError(f"the parameters of the tool {name} must be an object, not {whole['type']!r}")
    return whole


@dataclass(frozen=True)
class ToolRequest:
    """The tools of one answer. `choice`: "auto", "required", "none", or with `named` the name of the tool that must be
    called; `parallel`: whether one answer may hold several calls; `told`: whether the model is told of tools that it must
    not call."""

    tools: tuple[ToolSpec, ...]
    choice: str = "auto"
    named: bool = False
    parallel: bool = True
    told: bool = False

    @classmethod
    def of(
        cls, tools: Iterable[Any], choice: str | Mapping[str, Any] = "auto", *, parallel: bool = True
    ) -> ToolRequest:
        """`choice`: a word, a tool's name, or a mapping as in OpenAI's API. Raises UsageError."""
        if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Iterable):
            raise UsageError(f"tools must be a list of tools, not {type(tools).__name__}", hint=_FORMS)
        specs = tuple(ToolSpec.of(tool) for tool in tools)
        names = [spec.name for spec in specs]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"two tools are named {twice}", hint="rename one")
        named, wanted = _choice(choice)
        if (named or wanted not in WORDS) and wanted not in names:
            raise UsageError(
                f"there is no tool {wanted!r}, as `tool_choice` wants",
                hint=did_you_mean(wanted, [*names, *WORDS], f"choices: {', '.join([*WORDS, *names])}"),
            )
        if wanted == "required" and not specs:
            raise UsageError("`tool_choice=required` needs a tool", hint="pass `tools`")
        return cls(specs, wanted, named or wanted not in WORDS, parallel)

    @property
    def shown(self) -> tuple[ToolSpec, ...]:
        """The tools that the model is told of."""
        return () if self.calls_none and not self.told else self.tools

    @property
    def calls_none(self) -> bool:
        """Whether the answer must not call any."""
        return self.choice == "none" and not self.named

    @property
    def callable(self) -> tuple[ToolSpec, ...]:
        """The tools that it may call."""
        return () if self.calls_none else tuple(t for t in self.tools if not self.named or t.name == self.choice)

    @property
    def must_call(self) -> bool:
        """Whether the answer is a call."""
        return self.named or self.choice == "required"

    @property
    def most_calls(self) -> int:
        """Of one answer."""
        return MOST_CALLS if self.parallel and not self.named else 1


def _choice(choice: Any) -> tuple[bool, str]:
    """(whether it is a tool's name for certain, the word or name)."""
    if isinstance(choice, str):
        return False, choice
    function = choice.get("function", choice) if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise UsageError(f"`tool_choice` must be auto, required, none or a tool's name, not {choice!r}")
    return True, name
