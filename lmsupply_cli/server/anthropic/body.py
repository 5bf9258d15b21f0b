"""The body of POST /v1/messages, and what it asks of a model."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.server import guided
from lmsupply_cli.server.anthropic.blocks import Message, Texts, as_messages, system_text
from lmsupply_cli.server.anthropic.tools import Tool, ToolChoice, offers_of
from lmsupply_cli.server.body import MOST_MESSAGES, MOST_STOPS, MOST_TOOLS, Body, Form, Part, told_by_type
from lmsupply_cli.server.errors import bad_field
from lmsupply_cli.server.sampling import generation_options
from lmsupply_cli.server.thinking import thinking_of
from lmsupply_cli.serving.requests import AnswerRequest

NAMES = {"stop": "stop_sequences", "guidance": "output_config.format", "answer_prefix": "messages"}
"""The API's fields by the library's parameters."""


class ThinkingOn(Part):
    """The model thinks. `display`: whether the thoughts are given; nothing here shortens them. The model decides how long
    it thinks: `budget_tokens` is a target in Anthropic's API as well, and `max_tokens` limits both."""

    type: Literal["enabled", "adaptive"]
    display: Literal["summarized", "omitted"] = "summarized"
    no_effect = frozenset({"budget_tokens"})


class ThinkingOff(Part):
    """It answers at once."""

    type: Literal["disabled"]


class JsonSchema(Part):
    """An answer that follows a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Part):
    """The form of the answer, and how much the model thinks."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonSchema | None = None


class PromptBody(Body):
    """What a prompt is made of."""

    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    system: Texts = ""
    tools: list[Tool] = Field(default_factory=list, max_length=MOST_TOOLS)
    tool_choice: ToolChoice | None = None
    thinking: (
        Annotated[
            Annotated[ThinkingOn, Form("enabled")] | Annotated[ThinkingOff, Form("disabled")],
            told_by_type("enabled", "adaptive", "disabled", alike={"adaptive": "enabled"}),
        ]
        | None
    ) = None
    output_config: OutputConfig = OutputConfig()
    output_format: JsonSchema | None = None

    no_effect = frozenset(
        {
            "anthropic_beta",
            "anthropic_version",
            "betas",
            "cache_control",
            "context_management",
            "diagnostics",
            "inference_geo",
            "metadata",
            "service_tier",
            "speed",
            "user_profile_id",
            "workspace_id",
        }
    )
    unsupported: ClassVar[dict[str, str]] = {
        "container": "the server runs no code",
        "mcp_servers": "the server runs no tools; offer them as `tools` and run them yourself",
    }

    def _guidance(self) -> Guidance | None:
        wanted = self.output_config.format or self.output_format
        where = "output_config.format" if self.output_config.format else "output_format"
        return guided.json_schema(wanted.schema_, param=f"{where}.schema") if wanted else None

    def request(self) -> AnswerRequest:
        """Raises ApiError that names the field."""
        messages, prefix = as_messages(system_text(self.system), self.messages)
        offers = offers_of(self.tools, self.tool_choice)
        thinking = thinking_of(self.output_config.effort, enable=self._enable_thinking(prefix))
        return AnswerRequest(
            messages=messages,
            options=self._options(),
            answer_prefix=prefix,
            tools=offers.tools if offers.callable or not prefix else (),
            tool_choice=offers.tool_choice,
            parallel_tool_calls=not (self.tool_choice and self.tool_choice.disable_parallel_tool_use),
            guidance=self._guidance(),
            enable_thinking=thinking.enable_thinking,
            reasoning_effort=thinking.reasoning_effort,
            thinking_is_wish=True,
        )

    def _enable_thinking(self, prefix: str) -> bool | None:
        """None: the model decides. Without the field it does not think, as in Anthropic's API."""
        wanted = self.thinking.type if self.thinking else "disabled"
        if prefix and wanted == "enabled":
            raise bad_field("thinking", "thinking can't be combined with a prefilled answer (leave one out)")
        return {"enabled": True, "adaptive": False if prefix else None}.get(wanted, False)

    def _options(self) -> dict[str, Any]:
        return {}


class MessagesBody(PromptBody):
    """All of it."""

    max_tokens: int = Field(ge=1)
    stream: bool = False
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    stop_sequences: list[str] = Field(default_factory=list, max_length=MOST_STOPS)

    @property
    def display(self) -> Literal["shown", "omitted", "none"]:
        """What is given of thoughts; omitted: a block without their text."""
        if not isinstance(self.thinking, ThinkingOn):
            return "none"
        return "omitted" if self.thinking.display == "omitted" else "shown"

    def _options(self) -> dict[str, Any]:
        values = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "stop": tuple(self.stop_sequences) or None,
        }
        return generation_options(values, names=NAMES)
