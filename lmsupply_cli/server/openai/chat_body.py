"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from lmsupply_cli.server.body import (
    MOST_MESSAGES,
    MOST_TOOLS,
    Body,
    Form,
    Part,
    refuses,
    string_or_list,
    told_by,
)
from lmsupply_cli.server.openai.fields import NO_EFFECT, Sampling, StreamOptions
from lmsupply_cli.server.thinking import Effort

_TEXT_ONLY = "models here read text only"
_PARTS = {
    "image_url": _TEXT_ONLY,
    "input_audio": _TEXT_ONLY,
    "file": "put its text into the message",
    "video_url": _TEXT_ONLY,
    "refusal": "no model here writes one",
}


class TextPart(Part):
    """A piece of a message."""

    type: Literal["text"]
    text: str
    no_effect = frozenset({"prompt_cache_breakpoint", "cache_control", "annotations"})


Content = Annotated[
    Annotated[str, Form("string")] | Annotated[list[Annotated[TextPart, refuses(_PARTS)]], Form("list")],
    told_by(string_or_list, "a string or a list of parts"),
]


class CalledFunction(Part):
    """`arguments`: a JSON object as text."""

    name: str
    arguments: str


class Call(Part):
    """A call that the model made earlier."""

    id: str = Field(min_length=1)
    type: Literal["function"] = "function"
    function: CalledFunction
    no_effect = frozenset({"index"})


class Message(Part):
    """`name` and what clients keep beside an answer are not shown to models."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[Call] = Field(default_factory=list)
    tool_call_id: str = ""
    no_effect = frozenset(
        {
            "name", "annotations", "reasoning", "reasoning_content", "reasoning_details", "thinking_blocks",
            "provider_specific_fields", "refusal",
        }
    )  # fmt: skip
    unsupported = {  # noqa: RUF012  # a ClassVar of Part
        "audio": "models here read and write text only",
        "function_call": "use tool_calls",
    }


class Function(Part):
    """`strict`: a schema that cannot be enforced is an error, else only what can be is."""

    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    strict: bool = False


class Tool(Part):
    """A function of the caller."""

    type: Literal["function"]
    function: Function
    no_effect = frozenset({"cache_control"})


class Named(Part):
    """Of a function."""

    name: str


class NamedTool(Part):
    """A function by its name."""

    type: Literal["function"] = "function"
    function: Named


class AllowedTools(Part):
    """The functions that may be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1)


class ChosenTool(Part):
    """`function` or `allowed_tools`, as `type` says."""

    type: Literal["function", "allowed_tools"]
    function: Named | None = None
    allowed_tools: AllowedTools | None = None


def _word_or_object(value: Any) -> str | None:
    return "word" if isinstance(value, str) else "object" if isinstance(value, dict) else None


Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Form("word")] | Annotated[ChosenTool, Form("object")],
    told_by(_word_or_object, "none, auto, required, or an object that names a function"),
]


class JsonSchema(Part):
    """`strict` changes nothing: a schema is always enforced or refused."""

    name: str = ""
    description: str = ""
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool = True


class ResponseFormat(Part):
    """`schema` may stand in `json_schema` or beside it; without one, any JSON object will do."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class TemplateKeywords(Part):
    """The variables of chat templates that may be set."""

    enable_thinking: bool | None = None


class ChatBody(Body, Sampling):
    """Defaults of sampling are the model's own. `max_tokens` is the older name of `max_completion_tokens`."""

    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    n: int = Field(default=1, ge=1, le=16)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    tools: list[Annotated[Tool, refuses({"custom": "offer a function"})]] = Field(
        default_factory=list, max_length=MOST_TOOLS
    )
    tool_choice: Choice | None = None
    parallel_tool_calls: bool = True
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateKeywords | None = None
    verbosity: Literal["medium"] | None = None
    modalities: list[Literal["text"]] | None = None
    no_effect = NO_EFFECT | {"prediction"}
    unsupported = {  # noqa: RUF012  # a ClassVar of Part
        "audio": "models here write text only",
        "functions": "use tools",
        "function_call": "use tool_choice",
        "web_search_options": "the server does not search the web",
        "moderation": "nothing is moderated",
    }
