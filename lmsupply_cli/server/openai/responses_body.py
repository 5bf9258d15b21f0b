"""The body of POST /v1/responses, and what it asks of a model."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.server import guided
from lmsupply_cli.server.body import (
    MOST_MESSAGES,
    MOST_TOOLS,
    Body,
    Form,
    Part,
    refuses,
    string_or_list,
    told_by,
    told_by_type,
)
from lmsupply_cli.server.openai.responses_input import STATELESS, Item, as_messages
from lmsupply_cli.server.openai.responses_tools import Functions, Tool, ToolChoice, flat_name, shown
from lmsupply_cli.server.sampling import generation_options
from lmsupply_cli.server.thinking import Effort, thinking_of
from lmsupply_cli.serving.requests import AnswerRequest

ENCRYPTED, LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
_MOST_METADATA = 64
NAMES = {"max_tokens": "max_output_tokens", "guidance": "text.format", "messages": "input"}
"""The API's fields by the library's parameters."""


class PlainText(Part):
    """An answer in any form."""

    type: Literal["text"]


class JsonObject(Part):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Part):
    """An answer that follows a schema, `strict` or not."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")
    name: str = ""
    no_effect = frozenset({"description", "strict"})


class TextForm(Part):
    """The form of the answer."""

    format: (
        Annotated[
            Annotated[PlainText, Form("text")]
            | Annotated[JsonObject, Form("json_object")]
            | Annotated[JsonSchema, Form("json_schema")],
            told_by_type("text", "json_object", "json_schema"),
            refuses({"grammar": "use a json_schema", "python": "use a json_schema"}),
        ]
        | None
    ) = None
    verbosity: Literal["medium"] | None = None


class Reasoning(Part):
    """How much a model thinks; "medium", the default of OpenAI's models, is accepted for every model. `summary`: its thoughts are given as the summary, since nothing here shortens them."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto"] | None = None
    mode: Literal["standard"] | None = None


class PromptBody(Body):
    """What a prompt is made of."""

    model: str = Field(min_length=1)
    input: Annotated[
        Annotated[str, Form("string")] | Annotated[list[Item], Field(max_length=MOST_MESSAGES), Form("list")],
        told_by(string_or_list, "a string or a list of items"),
    ]
    instructions: str = ""
    tools: list[Tool] = Field(default_factory=list, max_length=MOST_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    text: TextForm = TextForm()
    reasoning: Reasoning = Reasoning()
    truncation: Literal["disabled"] = "disabled"

    unsupported: ClassVar[dict[str, str]] = {
        "previous_response_id": STATELESS,
        "conversation": STATELESS,
        "prompt": "the server stores no prompts; send `instructions` and `input`",
        "personality": "put it into `instructions`",
    }

    @property
    def functions(self) -> Functions:
        """The tools that a model may be told of."""
        return Functions.of(self.tools)

    @property
    def shown(self) -> dict[str, Any]:
        """As the response repeats it: skipped tools are left out."""
        choice = self.tool_choice or "auto"
        return {
            "tools": shown(self.tools),
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(exclude_unset=True),
            "text": {"format": {"type": "text"}} | self.text.model_dump(by_alias=True, exclude_none=True),
            "reasoning": {"effort": self.reasoning.effort, "summary": self.reasoning.summary},
            "parallel_tool_calls": self.parallel_tool_calls,
            "instructions": self.instructions or None,
            "model": self.model,
            "truncation": self.truncation,
        }

    def _guidance(self) -> Guidance | None:
        form = self.text.format
        if isinstance(form, JsonSchema):
            return guided.json_schema(form.schema_, param="text.format.schema")
        return guided.json_object() if isinstance(form, JsonObject) else None

    def request(self) -> AnswerRequest:
        """Raises ApiError that names the field."""
        offers = self.functions.offers(self.tool_choice)
        thinking = thinking_of(self.reasoning.effort)
        return AnswerRequest(
            messages=as_messages(self.instructions, self.input, flat_name),
            options=self._options(),
            tools=offers.tools,
            tool_choice=offers.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
            guidance=self._guidance(),
            enable_thinking=thinking.enable_thinking,
            reasoning_effort=thinking.reasoning_effort,
            thinking_is_wish=self.reasoning.effort == "medium",
        )

    def _options(self) -> dict[str, Any]:
        return {}


class ResponsesBody(PromptBody):
    """All of it."""

    stream: bool = False
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    include: list[
        Literal[
            "reasoning.encrypted_content",
            "message.output_text.logprobs",
            "web_search_call.results",
            "web_search_call.action.sources",
            "file_search_call.results",
            "code_interpreter_call.outputs",
            "computer_call_output.output.image_url",
            "message.input_image.image_url",
        ]
    ] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict, max_length=_MOST_METADATA)

    no_effect = frozenset(
        {
            "access_programs",
            "background_options",
            "client_metadata",
            "max_tool_calls",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "stream_options",
            "user",
        }
    )
    unsupported: ClassVar[dict[str, str]] = PromptBody.unsupported | {
        "background": "wait for the response, or stream it",
        "context_management": "the server never truncates the input",
        "image": "the models read text only",
        "moderation": "nothing is moderated",
    }

    @property
    def shown(self) -> dict[str, Any]:
        """As the response repeats it."""
        return super().shown | {
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata,
            "temperature": self.temperature,
            "top_logprobs": self.top_logprobs or 0,
            "top_p": self.top_p,
        }

    @property
    def logprobs(self) -> bool:
        """Whether the log probabilities of the text are wanted."""
        return LOGPROBS in self.include or bool(self.top_logprobs)

    def _options(self) -> dict[str, Any]:
        values = {
            "max_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "logprobs": self.logprobs or None,
            "top_logprobs": self.top_logprobs,
        }
        return generation_options(values, names=NAMES)
