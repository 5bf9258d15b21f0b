"""Requests, events and errors as JSON values, for commands that use the model of a running server of the same version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.tools.spec import ToolSpec
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    SpeculativeStats,
    TextDelta,
    TextWasReasoning,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving.requests import AnswerRequest, WarmModel

ANSWER, CANCEL, FIND, LOAD, LOADED, UNLOAD, WARM = (
    f"/lmsupply/v1/{name}" for name in ("answer", "cancel", "find", "load", "loaded", "unload", "warm")
)
TOKEN = "x-lmsupply-token"
_EVENTS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        Finished, Notice, PrefillProgress, ReasoningDelta, TextDelta, TextWasReasoning, TokenLogprob, ToolCall,
        ToolCallDelta,
    )
}  # fmt: skip
_LOAD = (
    "provider", "threads", "context", "memory_limit", "trust_model_files", "chat_format", "enable_thinking",
    "reasoning_effort", "speculative", "draft_tokens",
)  # fmt: skip
_NOT_OURS = "this is not a request of this version of lmsupply"


def event_row(event: GenerationEvent) -> dict[str, Any]:
    """An event."""
    return {"type": type(event).__name__, **asdict(event)}


def event_of(row: Mapping[str, Any]) -> GenerationEvent:
    """Raises KeyError, TypeError for an invalid value."""
    values = dict(row)
    kind = _EVENTS[values.pop("type")]
    if kind is TokenLogprob:
        values["top"] = tuple(TokenLogprob(**{**top, "top": ()}) for top in values["top"])
    elif kind is Finished:
        stats = values["speculative"]
        values |= {
            "usage": Usage(**values["usage"]),
            "timings": Timings(**values["timings"]),
            "speculative": SpeculativeStats(**stats) if stats else None,
        }
    event: GenerationEvent = kind(**values)
    return event


def request_row(request: AnswerRequest) -> dict[str, Any]:
    """A request; the functions of its tools stay here."""
    return {
        "messages": [asdict(message) for message in request.messages],
        "text": request.text,
        "options": dict(request.options),
        "answer_prefix": request.answer_prefix,
        "tools": [_tool_row(tool) for tool in request.tools],
        "tool_choice": request.tool_choice,
        "parallel_tool_calls": request.parallel_tool_calls,
        "told": request.told,
        "guidance": asdict(request.guidance) if request.guidance else None,
        "enable_thinking": request.enable_thinking,
        "reasoning_effort": request.reasoning_effort,
    }


def request_of(row: Any) -> AnswerRequest:
    """Raises UsageError."""
    try:
        values = dict(row)
        guidance = values["guidance"]
        return AnswerRequest(
            **values
            | {
                "messages": tuple(_message(message) for message in values["messages"]),
                "options": _options(values["options"]),
                "tools": tuple(ToolSpec(**tool) for tool in values["tools"]),
                "guidance": Guidance(**guidance) if guidance else None,
            }
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(_NOT_OURS) from error


def _tool_row(tool: ToolSpec) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": tool.strict,
    }


def _message(row: Mapping[str, Any]) -> ChatMessage:
    calls = tuple(ToolCall(**call) for call in row["tool_calls"])
    return ChatMessage(**{**row, "role": ChatRole(row["role"]), "tool_calls": calls})


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    """Pairs and lists of texts are tuples here."""
    options = dict(row)
    if "logit_bias" in options:
        options["logit_bias"] = tuple((int(token), float(bias)) for token, bias in options["logit_bias"])
    if isinstance(options.get("stop"), list):
        options["stop"] = tuple(options["stop"])
    return options


def error_row(error: LmsupplyError) -> dict[str, Any]:
    """An error."""
    param = error.param if isinstance(error, UsageError) else ""
    return {"code": error.code, "message": error.message, "hint": error.hint, "param": param}


def error_of(row: Any) -> LmsupplyError:
    """The same error; an unknown one becomes a LmsupplyError."""
    if not isinstance(row, Mapping):
        return LmsupplyError("the server said what is not understood")
    kinds = {kind("").code: kind for kind in _kinds(LmsupplyError) if kind.__module__ == LmsupplyError.__module__}
    kind = kinds.get(str(row.get("code")), LmsupplyError)
    error = kind(str(row.get("message", "")), hint=str(row.get("hint") or ""))
    return error.of(str(row.get("param") or "")) if isinstance(error, UsageError) else error


def _kinds(kind: type[LmsupplyError]) -> Iterator[type[LmsupplyError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


@dataclass(frozen=True, slots=True)
class WarmRow:
    """A loaded model as the other process sees it. `load`: how it was loaded, by the names of LoadOptions; `provider` and
    `threads` are what that came to; `path`: of its folder."""

    ref: str
    path: str
    provider: str
    threads: int
    context_length: int
    context_tokens: int
    load: Mapping[str, Any]
    notices: tuple[Notice, ...]

    @classmethod
    def of(cls, model: WarmModel) -> WarmRow:
        """As it is sent."""
        info, load = model.info, model.load
        limit = load.limits.limit_bytes if load.limits else None
        return cls(
            ref=info.ref,
            path=str(info.path),
            provider=info.provider,
            threads=info.threads,
            context_length=info.context_length,
            context_tokens=model.context_tokens,
            load={name: getattr(load, name) for name in _LOAD} | {"memory_limit": limit},
            notices=model.notices,
        )

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> WarmRow:
        """Raises KeyError, TypeError for an invalid row."""
        return cls(**{**row, "notices": tuple(Notice(**notice) for notice in row["notices"])})

    def differences(self, wanted: LoadOptions) -> list[str]:
        """The load options that give another answer here than `wanted` would."""
        load = self.load
        same = {
            "provider": load["provider"] == "auto" if wanted.provider == "auto" else self.provider == wanted.provider,
            "threads": wanted.threads in (None, self.threads),
            "context": load["context"] is None if wanted.context is None else self.context_tokens == wanted.context,
            "memory_limit": wanted.limits is None or wanted.limits.limit_bytes == load["memory_limit"],
            "chat_format": wanted.chat_format == load["chat_format"],
            "speculative": wanted.speculative == load["speculative"],
            "draft_tokens": wanted.speculative == "off" or wanted.draft_tokens == load["draft_tokens"],
            "trust_model_files": not wanted.trust_model_files or load["trust_model_files"],
        }
        return [name for name, is_same in same.items() if not is_same]
