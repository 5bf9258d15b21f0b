"""Fields that chat and generate share, and what they ask of a model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.server.body import Body, Form, told_by
from lmsupply_cli.server.errors import bad_field
from lmsupply_cli.server.guided import json_object, json_schema
from lmsupply_cli.server.ollama.options import OPTION_NAMES, Options
from lmsupply_cli.server.thinking import Thinking, thinking_of
from lmsupply_cli.serving.requests import ServedModel

NAMES: Mapping[str, str] = MappingProxyType(
    {
        **OPTION_NAMES, "guidance": "format", "text": "prompt", "enable_thinking": "think", "reasoning_effort": "think",
        "answer_prefix": "messages",
    }
)  # fmt: skip
TAG = ":latest"  # what clients add to a name without a tag

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+")
_STEP = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = re.compile(r"[+-]?\d{1,12}(?:\.\d+)?")


def _number_or_text(value: Any) -> str | None:
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _switch_or_level(value: Any) -> str | None:
    return "switch" if isinstance(value, bool) else "level" if isinstance(value, str) else None


def _word_or_object(value: Any) -> str | None:
    return "word" if isinstance(value, str) else "object" if isinstance(value, dict) else None


Think = Annotated[
    Annotated[bool, Form("switch")] | Annotated[Literal["low", "medium", "high", "max"], Form("level")],
    told_by(_switch_or_level, "true, false, low, medium, high or max"),
]
Format = Annotated[
    Annotated[Literal["", "json"], Form("word")] | Annotated[dict[str, Any], Form("object")],
    told_by(_word_or_object, '"json" or a JSON schema'),
]
KeepAlive = Annotated[
    Annotated[float, Form("number")] | Annotated[str, Form("text")],
    told_by(_number_or_text, "a duration such as 5m, or seconds"),
]


class Answering(Body):
    """`keep_alive`: a duration or seconds; negative is for ever, 0 unloads the model after the answer. `truncate` and
    `shift` would cut a long conversation; here it is an error."""

    model: str = Field(min_length=1)
    stream: bool = True
    format: Format | None = None
    options: Options = Field(default_factory=Options)
    think: Think | None = None
    keep_alive: KeepAlive | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    unsupported = {  # noqa: RUF012  # a ClassVar of Part
        "truncate": "the server never truncates; a prompt that is too long is an error",
        "shift": "the server never truncates; an answer ends when the context is full",
        "images": "models here read text only",
        "_debug_render_only": "lmsupply run --show-prompt shows a prompt",
    }

    @property
    def names(self) -> Mapping[str, str]:
        """The fields by what the library calls them."""
        return NAMES

    @property
    def name(self) -> str:
        """The model without the tag that stands for no tag."""
        return self.model.removesuffix(TAG) or self.model

    @property
    def keep_alive_s(self) -> float | None:
        """Seconds, None for the server's default. Raises ApiError."""
        return None if self.keep_alive is None else seconds_of(self.keep_alive)

    @property
    def guidance(self) -> Guidance | None:
        """Raises ApiError that names the field."""
        if not isinstance(self.format, dict):
            return json_object() if self.format else None
        return json_schema(self.format, param="format")

    def generation(self) -> dict[str, Any]:
        """Generation options. Raises ApiError that names the field."""
        if self.top_logprobs and not self.logprobs:
            raise bad_field("top_logprobs", "top_logprobs needs logprobs: true")
        return self.options.generation({"logprobs": self.logprobs, "top_logprobs": self.top_logprobs})

    def thinking(self, model: ServedModel) -> Thinking:
        """Raises ApiError for a model that does not think, unless it is told not to."""
        if self.think is None or (not self.think and not model.thinking):
            return Thinking()
        if not model.thinking:
            raise bad_field("think", f"think: {model.ref} is not a reasoning model", code="unsupported_parameter")
        if isinstance(self.think, bool):
            return thinking_of(None if self.think else "none", enable=self.think)
        return thinking_of(self.think, enable=True)


def seconds_of(keep_alive: float | str) -> float:
    """A number of seconds, or a duration such as 5m, 1h30m or 500ms; infinity for a negative one. Raises ApiError."""
    if isinstance(keep_alive, str):
        text = keep_alive.strip()
        if _SECONDS.fullmatch(text):
            seconds = float(text)
        elif _DURATION.fullmatch(text):
            seconds = sum(float(number) * _UNITS[unit] for number, unit in _STEP.findall(text))
            seconds = -seconds if text.startswith("-") else seconds
        else:
            raise bad_field("keep_alive", f"keep_alive: {text[:40]!r} is not a duration such as 5m, 90s or 1h30m")
    else:
        seconds = float(keep_alive)
    return math.inf if seconds < 0 else seconds
